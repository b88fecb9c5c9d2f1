//! Writes the seeds as libFuzzer wants them: a folder per target, a file per input.

use std::error::Error;
use std::fs;
use std::path::Path;

use tributary_fuzz::targets::seeds;

fn main() -> Result<(), Box<dyn Error>> {
    let to = std::env::args_os().nth(1).ok_or("usage: unpack FOLDER")?;
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (target, file) in seeds::FILES {
        let folder = Path::new(&to).join(target);
        fs::create_dir_all(&folder)?;
        let text = fs::read_to_string(from.join(file))?;
        for (index, input) in seeds::inputs(target, &text).iter().enumerate() {
            fs::write(folder.join(format!("seed-{index:05}")), input)?;
        }
    }
    Ok(())
}
