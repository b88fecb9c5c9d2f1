//! Parts of a chunk that are sent again.

use super::{ACTION_END, Chunk, Draft, Operation};

/// The `_id` of no row: see [`crate::id::of_key`] for what follows a `~` there.
const PROBE: &str = "~?";
/// What stands between an action's `_id` and its version.
const ID_END: &[u8] = b",\"version\":";
const ID_BEGIN: &[u8] = b"\"_id\":";

impl Chunk {
    /// A chunk of these operations of `self` alone.
    pub(crate) fn only(&self, operations: &[Operation]) -> Self {
        let mut part = self.part();
        for operation in operations {
            part.push_lines(operation, &[self.lines(operation)]);
        }
        part.finish()
    }

    /// The chunk as it is sent to an index that took it before it was ready: an operation takes effect also where the
    /// document has its version already, and so is mapped as the index says by now.
    pub(crate) fn repeated(&self) -> Self {
        let mut part = self.part();
        for operation in &self.operations {
            let (action, document) = self.action_and_document(operation);
            let kept = action.strip_suffix(ACTION_END).unwrap_or(action);
            if kept.ends_with(b"_gte") {
                part.push_lines(operation, &[self.lines(operation)]);
            } else {
                part.push_lines(operation, &[kept, b"_gte", ACTION_END, document]);
            }
        }
        part.finish()
    }

    /// These operations of `self`, each behind a delete of a document that is not there, in the same shard: where that
    /// works and the operation fails, it is not the shard.
    pub(crate) fn probed(&self, operations: &[Operation]) -> Self {
        let mut part = self.part();
        for operation in operations {
            part.push_probe(self.action_of(operation));
            part.push_lines(operation, &[self.lines(operation)]);
        }
        part.finish()
    }

    /// The delete alone that stands there in front of this operation.
    pub(crate) fn probe(&self, operation: &Operation) -> Self {
        let mut part = self.part();
        part.push_probe(self.action_of(operation));
        part.finish()
    }

    /// What tells an operation from all others of its index: its `_id` and version.
    pub(crate) fn action_of(&self, operation: &Operation) -> &[u8] {
        self.action_and_document(operation).0
    }

    /// An operation's two lines; of a delete the second is empty.
    fn action_and_document(&self, operation: &Operation) -> (&[u8], &[u8]) {
        let lines = self.lines(operation);
        let end = lines.iter().position(|byte| *byte == b'\n');
        lines.split_at(end.map_or(lines.len(), |end| end + 1))
    }

    fn lines(&self, operation: &Operation) -> &[u8] {
        self.body.get(operation.lines.clone()).unwrap_or_default()
    }

    fn part(&self) -> Draft {
        Draft {
            plans: self.plans.clone(),
            ..Draft::default()
        }
    }
}

impl Draft {
    fn push_probe(&mut self, action: &[u8]) {
        let probe = Operation {
            place: None,
            is_delete: true,
            plan: None,
            lines: 0..0,
        };
        let head = format!("{{\"delete\":{{\"_id\":\"{PROBE}\",\"routing\":");
        self.push_lines(&probe, &[head.as_bytes(), id_of(action), b"}}\n"]);
    }

    fn push_lines(&mut self, operation: &Operation, parts: &[&[u8]]) {
        let start = self.body.len();
        for part in parts {
            self.body.extend_from_slice(part);
        }
        self.operations.push(Operation {
            lines: start..self.body.len(),
            ..operation.clone()
        });
    }
}

/// The `_id` in an action's line, as JSON: in a JSON string no quote stands without a backslash.
fn id_of(action: &[u8]) -> &[u8] {
    let find = |part: &[u8]| action.windows(part.len()).position(|window| window == part);
    let begin = find(ID_BEGIN).map(|begin| begin + ID_BEGIN.len());
    let range = begin.zip(find(ID_END));
    range
        .and_then(|(begin, end)| action.get(begin..end))
        .unwrap_or(b"\"\"")
}

#[cfg(test)]
mod tests {
    use super::super::{Draft, VersionType};
    use super::Chunk;

    fn chunk() -> Chunk {
        let mut draft = Draft::default();
        for (offset, id) in [(1, r#""a""#), (2, r#""\",\"version\":\"_id\":""#)] {
            draft.push_delete(Some((0, offset)), id.as_bytes(), 7, VersionType::External);
        }
        draft.push_sweep(br#""c""#, 6);
        draft.finish()
    }

    fn lines(chunk: &Chunk) -> Vec<String> {
        let body = chunk.body();
        let lines = std::str::from_utf8(&body).unwrap().lines();
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn a_repeated_operation_takes_effect_at_its_own_version_too() {
        let repeated = chunk().repeated();
        assert_eq!(
            lines(&repeated),
            [
                r#"{"delete":{"_id":"a","version":7,"version_type":"external_gte"}}"#,
                r#"{"delete":{"_id":"\",\"version\":\"_id\":","version":7,"version_type":"external_gte"}}"#,
                r#"{"delete":{"_id":"c","version":6,"version_type":"external_gte"}}"#,
            ]
        );
        assert_eq!(lines(&repeated.repeated()), lines(&repeated));
    }

    #[test]
    fn a_probe_goes_where_its_operation_goes() {
        let chunk = chunk();
        let probed = chunk.probed(&chunk.operations[1..2]);
        assert_eq!(
            lines(&probed),
            [
                r#"{"delete":{"_id":"~?","routing":"\",\"version\":\"_id\":"}}"#,
                r#"{"delete":{"_id":"\",\"version\":\"_id\":","version":7,"version_type":"external"}}"#,
            ]
        );
        let offsets: Vec<_> = probed
            .operations
            .iter()
            .map(|one| one.place.map(|(_, offset)| offset))
            .collect();
        assert_eq!(offsets, [None, Some(2)]);
    }
}
