//! An index says which one it is, so that one which the engine has restored from a snapshot is known.

use super::Index;
use crate::found::Found;

impl Index {
    /// Notes in the index which one it is, where it does not say so yet. What fails is tried again at the next look at the index.
    pub(super) async fn say_which(&self, found: &Found) {
        let Some(identity) = found.unsaid() else {
            return;
        };
        let path = [&*found.write_index, "_mapping"];
        let said = self.put(&path, identity.mapping()).await;
        let said = said.and_then(|reply| reply.json("note which index it is"));
        if let Err(error) = said {
            let index = found.write_index.as_str();
            if self.unnoted.is_news(index) {
                tracing::warn!(
                    %error,
                    index,
                    "cannot note in the index which one it is, and goes on to try: until then it is not known if it is restored from a snapshot"
                );
            }
        }
    }
}
