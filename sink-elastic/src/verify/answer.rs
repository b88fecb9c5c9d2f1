//! What the command answers.

use serde_json::{Map, Value, json};
use tributary_postgres::verify::{Difference, Report};
use tributary_runtime::cli::{Answer, exit};

/// What was found of an index.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) alias: String,
    pub(super) topic: String,
    /// `schema.table`
    pub(super) table: String,
    /// What to do where something differs.
    pub(super) remedy: String,
    pub(super) seconds: f64,
    /// Or why it could not be compared.
    pub(super) outcome: Result<Report, String>,
}

impl Verified {
    pub(super) const fn refused(alias: String, topic: String, why: String) -> Self {
        Self {
            alias,
            topic,
            table: String::new(),
            remedy: String::new(),
            seconds: 0.0,
            outcome: Err(why),
        }
    }

    fn is_clean(&self) -> bool {
        self.outcome.as_ref().is_ok_and(Report::is_clean)
    }

    fn text(&self) -> String {
        let report = match &self.outcome {
            Ok(report) => report,
            Err(why) => return format!("{}: not compared: {why}\n", self.alias),
        };
        let mut text = format!(
            "{}: {} rows of {} and {} documents compared in {:.0} s, up to {}\n",
            self.alias, report.rows, self.table, report.copies, self.seconds, report.position
        );
        for (kind, found) in &report.differing {
            text.push_str(&listed(kind.name(), found.count, &found.ids));
        }
        if report.behind.count > 0 {
            let why = report.waits_for.as_deref().unwrap_or_default();
            text.push_str(&listed(
                &format!("not certain, since {why}"),
                report.behind.count,
                &report.behind.ids,
            ));
        }
        if report.moving.count > 0 {
            let moving = "changed too often to be compared, and followed";
            text.push_str(&listed(moving, report.moving.count, &report.moving.ids));
        }
        if report.unknown > 0 {
            text.push_str(&format!(
                "  {} documents have an _id that does not tell their key: whether each of them has a row is not known\n",
                report.unknown
            ));
        }
        if !report.differing.is_empty() {
            text.push_str(&format!("  to do: {}\n", self.remedy));
        }
        if report.is_clean() {
            text.push_str("  nothing differs\n");
        }
        text
    }

    fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("alias".to_owned(), json!(self.alias));
        object.insert("topic".to_owned(), json!(self.topic));
        let report = match &self.outcome {
            Ok(report) => report,
            Err(why) => {
                object.insert("error".to_owned(), json!(why));
                return object.into();
            }
        };
        for kind in Difference::ALL {
            let found = report.differing.get(&kind).cloned().unwrap_or_default();
            let found = json!({"count": found.count, "ids": found.ids});
            object.insert(kind.name().to_owned(), found);
        }
        let others = json!({
            "table": self.table,
            "rows": report.rows,
            "documents": report.copies,
            "position": report.position.to_string(),
            "seconds": self.seconds,
            "behind": {"count": report.behind.count, "ids": report.behind.ids, "reason": report.waits_for},
            "moving": {"count": report.moving.count, "ids": report.moving.ids},
            "unknown": report.unknown,
            "remedy": (!report.differing.is_empty()).then_some(&self.remedy),
        });
        object.extend(others.as_object().cloned().unwrap_or_default());
        object.into()
    }
}

fn listed(what: &str, count: u64, ids: &[String]) -> String {
    let more = if count > ids.len() as u64 {
        ", …"
    } else {
        ""
    };
    format!("  {count} {what}: {}{more}\n", ids.join(", "))
}

/// Of all of them.
pub(super) fn of(all: &[Verified]) -> Answer {
    let text = match all {
        [] => "there is no topic that `topics` matches\n".to_owned(),
        all => all.iter().map(Verified::text).collect(),
    };
    let json = json!({"indices": all.iter().map(Verified::json).collect::<Vec<_>>()});
    let code = if !all.is_empty() && all.iter().all(Verified::is_clean) {
        exit::OK
    } else {
        exit::PROBLEMS
    };
    Answer { text, json, code }
}

#[cfg(test)]
mod tests {
    use tributary_postgres::verify::{Difference, Report};

    use super::{Verified, of};

    fn compared(report: Report) -> Verified {
        Verified {
            alias: "shop.s.t".to_owned(),
            topic: "shop.s.t".to_owned(),
            table: "s.t".to_owned(),
            remedy: "mend it".to_owned(),
            seconds: 2.0,
            outcome: Ok(report),
        }
    }

    #[test]
    fn an_answer_says_what_differs_and_what_is_not_known() {
        let answer = of(&[compared(Report::default())]);
        assert_eq!(answer.code, 0);
        assert!(
            answer.text.ends_with("  nothing differs\n"),
            "{}",
            answer.text
        );

        let mut report = Report::default();
        let missing = report.differing.entry(Difference::Missing).or_default();
        (missing.count, missing.ids) = (3, vec!["1".to_owned(), "2".to_owned()]);
        report.behind.count = 1;
        report.waits_for = Some("the sink has 4 records yet to write".to_owned());
        let refused = Verified::refused("x".to_owned(), "x".to_owned(), "no key".to_owned());
        let answer = of(&[compared(report), refused]);
        assert_eq!(answer.code, 3);
        for part in [
            "  3 missing: 1, 2, …\n",
            "  1 not certain, since the sink has 4 records yet to write: ",
            "  to do: mend it\n",
            "x: not compared: no key\n",
        ] {
            assert!(answer.text.contains(part), "{}", answer.text);
        }
        assert_eq!(answer.json["indices"][0]["missing"]["count"], 3);
        assert_eq!(answer.json["indices"][1]["error"], "no key");
    }
}
