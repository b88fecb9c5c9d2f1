//! Reads the modules of a crate: what each one holds, what its `use` items bring, and which paths its code writes out.
//!
//! The compiler's own lexer takes comments and strings away, so a path in one of them is none. What stands under
//! `#[cfg(test)]` is left out, files that are declared there included.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The names that lead to a module from the root of its crate, whose own path is empty.
pub(crate) type ModulePath = Vec<String>;

/// Keywords whose next word is a name that the module holds.
const NAMING: [&str; 7] = ["const", "enum", "fn", "static", "struct", "trait", "type"];
/// Items that go on to a semicolon, also behind braces.
const TO_SEMICOLON: [&str; 4] = ["const", "let", "static", "use"];
/// Items that end with their braces, or with a semicolon.
const TO_BRACES: [&str; 11] = [
    "async",
    "enum",
    "extern",
    "fn",
    "impl",
    "macro_rules",
    "mod",
    "struct",
    "trait",
    "type",
    "unsafe",
];

/// One module, in a file of its own or inline.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// The module whose file holds the text: this one, or the one around an inline module.
    pub(crate) home: ModulePath,
    pub(crate) file: PathBuf,
    pub(crate) children: BTreeSet<String>,
    /// What is defined here, macros included.
    pub(crate) items: BTreeSet<String>,
    pub(crate) uses: Vec<Use>,
    /// Paths of two names or more in the code.
    pub(crate) paths: Vec<Vec<String>>,
    /// Literals in the code, as they are written; comments are none.
    pub(crate) literals: Vec<String>,
    /// Whether there is anything but modules and `use` items.
    pub(crate) has_code: bool,
}

/// One leaf of a `use` item.
#[derive(Debug)]
pub(crate) struct Use {
    pub(crate) path: Vec<String>,
    pub(crate) brings: Brings,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Brings {
    Name(String),
    Everything,
    /// A trait's methods (`as _`).
    NoName,
}

/// All modules of the crate whose root file is `root`. `text` reads a file, if there is one.
pub(crate) fn modules(
    root: &Path,
    text: &dyn Fn(&Path) -> Option<String>,
) -> Result<BTreeMap<ModulePath, Module>> {
    let folder = root.parent().context("a file without a folder")?;
    let mut found = BTreeMap::new();
    let mut declared = vec![ModulePath::new()];
    while let Some(path) = declared.pop() {
        let folder = path
            .iter()
            .fold(folder.to_owned(), |at, name| at.join(name));
        let candidates = if path.is_empty() {
            vec![root.to_owned()]
        } else {
            vec![folder.with_extension("rs"), folder.join("mod.rs")]
        };
        let (file, text) = candidates
            .into_iter()
            .find_map(|file| text(&file).map(|text| (file, text)))
            .with_context(|| format!("no file for module {}", path.join("::")))?;
        let tokens: TokenStream = text
            .parse()
            .map_err(|error| anyhow!("{}: {error}", file.display()))?;
        let mut reader = Reader {
            home: path.clone(),
            file: &file,
            found: &mut found,
            declared: &mut declared,
        };
        reader
            .module(path, tokens)
            .with_context(|| file.display().to_string())?;
    }
    Ok(found)
}

/// Reads one file.
struct Reader<'a> {
    home: ModulePath,
    file: &'a Path,
    found: &'a mut BTreeMap<ModulePath, Module>,
    declared: &'a mut Vec<ModulePath>,
}

impl Reader<'_> {
    fn module(&mut self, path: ModulePath, tokens: TokenStream) -> Result<()> {
        let mut module = Module {
            home: self.home.clone(),
            file: self.file.to_owned(),
            ..Module::default()
        };
        self.items(&path, &mut module, tokens)?;
        self.found.insert(path, module);
        Ok(())
    }

    /// The tokens of a module outside all braces but those of inline modules.
    fn items(&mut self, path: &ModulePath, module: &mut Module, tokens: TokenStream) -> Result<()> {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if let Some(next) = skipped(&tokens, at) {
                at = next;
            } else if let Some((attribute, next)) = attribute(&tokens, at) {
                if word(&attribute.stream().into_iter().collect::<Vec<_>>(), 0) == "path" {
                    bail!("a module at a path of its own is not understood");
                }
                at = next;
            } else if is_use(&tokens, at) {
                at = read_use(&tokens, at, module);
            } else if word(&tokens, at) == "mod" {
                let child: ModulePath = [path.as_slice(), &[word(&tokens, at + 1)]].concat();
                module.children.insert(word(&tokens, at + 1));
                match tokens.get(at + 2) {
                    Some(TokenTree::Group(body)) => {
                        self.module(child.clone(), body.stream())?;
                        module.has_code |= self.found[&child].has_code;
                    }
                    _ => self.declared.push(child),
                }
                at += 3;
            } else {
                let name = word(&tokens, at);
                module.has_code |= name != "pub";
                if NAMING.contains(&name.as_str()) {
                    module.items.insert(word(&tokens, at + 1));
                } else if name == "macro_rules" {
                    module.items.insert(word(&tokens, at + 2));
                }
                at = read_token(&tokens, at, module);
            }
        }
        Ok(())
    }
}

/// Paths and `use` items inside an item.
fn read_code(tokens: TokenStream, module: &mut Module) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        at = if let Some(next) = skipped(&tokens, at).or_else(|| comment(&tokens, at)) {
            next
        } else if is_use(&tokens, at) {
            read_use(&tokens, at, module)
        } else {
            read_token(&tokens, at, module)
        };
    }
}

/// Reads the token, with the rest of its path, and says where the next one is.
fn read_token(tokens: &[TokenTree], at: usize, module: &mut Module) -> usize {
    match &tokens[at] {
        TokenTree::Group(group) => {
            read_code(group.stream(), module);
            at + 1
        }
        TokenTree::Ident(_) => {
            let (path, next) = path(tokens, at);
            let before = |back: usize| at.checked_sub(back).map_or(' ', |at| punct(tokens, at));
            let behind_path = before(1) == ':' && before(2) == ':';
            let behind_value = before(1) == '.' && before(2) != '.';
            if path.len() > 1 && !behind_path && !behind_value {
                module.paths.push(path);
            }
            next
        }
        TokenTree::Literal(literal) => {
            module.literals.push(literal.to_string());
            at + 1
        }
        TokenTree::Punct(_) => at + 1,
    }
}

/// The end of a doc comment, which the lexer makes an attribute of, if one begins here.
fn comment(tokens: &[TokenTree], at: usize) -> Option<usize> {
    let (attribute, next) = attribute(tokens, at)?;
    let inside: Vec<TokenTree> = attribute.stream().into_iter().collect();
    (word(&inside, 0) == "doc").then_some(next)
}

/// The end of what does not count, if it begins here: items of tests, and who may see an item (`pub(in a::b)`).
fn skipped(tokens: &[TokenTree], at: usize) -> Option<usize> {
    if attribute(tokens, at).is_some_and(|(attribute, _)| of_tests(attribute)) {
        return Some(behind_item(tokens, at));
    }
    let Some(TokenTree::Group(group)) = tokens.get(at + 1) else {
        return None;
    };
    let seen_by: Vec<TokenTree> = group.stream().into_iter().collect();
    let is = word(tokens, at) == "pub"
        && group.delimiter() == Delimiter::Parenthesis
        && ["crate", "in", "self", "super"].contains(&word(&seen_by, 0).as_str());
    is.then_some(at + 2)
}

/// An attribute (`#[…]`, `#![…]`), and where the next token is.
fn attribute(tokens: &[TokenTree], at: usize) -> Option<(&Group, usize)> {
    if punct(tokens, at) != '#' {
        return None;
    }
    let at = at + 1 + usize::from(punct(tokens, at + 1) == '!');
    match tokens.get(at) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => {
            Some((group, at + 1))
        }
        _ => None,
    }
}

/// `cfg(test)` or `cfg(all(test, …))`.
fn of_tests(attribute: &Group) -> bool {
    let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
    let [TokenTree::Ident(name), TokenTree::Group(condition)] = tokens.as_slice() else {
        return false;
    };
    let condition: Vec<TokenTree> = condition.stream().into_iter().collect();
    let test = |tokens: &[TokenTree]| (0..tokens.len()).any(|at| word(tokens, at) == "test");
    let all = match condition.as_slice() {
        [TokenTree::Ident(all), TokenTree::Group(inner)] if all == "all" => {
            test(&inner.stream().into_iter().collect::<Vec<_>>())
        }
        _ => false,
    };
    name == "cfg" && (all || (condition.len() == 1 && test(&condition)))
}

/// Where an item, a field or a statement with attributes ends.
fn behind_item(tokens: &[TokenTree], mut at: usize) -> usize {
    while let Some((_, next)) = attribute(tokens, at) {
        at = next;
    }
    let (mut to_semicolon, mut to_braces) = (false, false);
    while at < tokens.len() {
        let name = word(tokens, at);
        if name == "fn" {
            (to_semicolon, to_braces) = (false, true);
        } else if !to_semicolon && !to_braces {
            to_semicolon = TO_SEMICOLON.contains(&name.as_str());
            to_braces = TO_BRACES.contains(&name.as_str());
        }
        let ends = match &tokens[at] {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !to_semicolon,
            TokenTree::Punct(mark) => {
                mark.as_char() == ';' || (mark.as_char() == ',' && !to_semicolon && !to_braces)
            }
            _ => false,
        };
        at += 1;
        if ends {
            break;
        }
    }
    at
}

/// `use` can also say what a type captures (`use<'a>`).
fn is_use(tokens: &[TokenTree], at: usize) -> bool {
    word(tokens, at) == "use" && punct(tokens, at + 1) != '<'
}

fn read_use(tokens: &[TokenTree], at: usize, module: &mut Module) -> usize {
    let length = (at..tokens.len()).position(|at| punct(tokens, at) == ';');
    let end = length.map_or(tokens.len(), |length| at + length);
    read_tree(&tokens[at + 1..end], &[], &mut module.uses);
    end + 1
}

/// One tree of a `use` item behind `prefix`.
fn read_tree(tokens: &[TokenTree], prefix: &[String], uses: &mut Vec<Use>) {
    let mut whole = prefix.to_vec();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(name) if name == "as" => break,
            // `a::{self}` is `a`.
            TokenTree::Ident(name) if name == "self" && !whole.is_empty() => {}
            TokenTree::Ident(name) => whole.push(name.to_string()),
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for tree in inner
                    .split(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ','))
                {
                    read_tree(tree, &whole, uses);
                }
                return;
            }
            TokenTree::Punct(mark) if mark.as_char() == '*' => {
                uses.push(Use {
                    path: whole,
                    brings: Brings::Everything,
                });
                return;
            }
            _ => {}
        }
        at += 1;
    }
    let name = if at < tokens.len() {
        word(tokens, at + 1)
    } else {
        whole.last().cloned().unwrap_or_default()
    };
    if tokens.is_empty() {
        return;
    }
    uses.push(Use {
        path: whole,
        brings: if name == "_" {
            Brings::NoName
        } else {
            Brings::Name(name)
        },
    });
}

/// The names from here on that `::` joins, and where the next token is.
fn path(tokens: &[TokenTree], mut at: usize) -> (Vec<String>, usize) {
    let mut names = vec![word(tokens, at)];
    while punct(tokens, at + 1) == ':'
        && punct(tokens, at + 2) == ':'
        && !word(tokens, at + 3).is_empty()
    {
        at += 3;
        names.push(word(tokens, at));
    }
    (names, at + 1)
}

/// The word at this place, or nothing.
fn word(tokens: &[TokenTree], at: usize) -> String {
    match tokens.get(at) {
        Some(TokenTree::Ident(name)) => name.to_string(),
        _ => String::new(),
    }
}

/// The mark at this place, or a space.
fn punct(tokens: &[TokenTree], at: usize) -> char {
    match tokens.get(at) {
        Some(TokenTree::Punct(mark)) => mark.as_char(),
        _ => ' ',
    }
}
