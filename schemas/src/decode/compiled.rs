//! A compiled type, and the forms that some schemas take.

use serde_json::Value;

use super::meaning::Annotations;
use super::plan::{Arm, FieldPlan, Plan, Slot};
use crate::record::{Field, FieldType, RecordType};

/// A compiled type.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pub(super) slot: Slot,
    pub(super) field_type: FieldType,
    pub(super) nullable: bool,
    /// The column's original name, from the annotations of this very place.
    pub(super) column_name: Option<String>,
    /// How many types it consists of, itself included.
    pub(super) types: usize,
    /// How many types stand in each other, itself included.
    pub(super) depth: usize,
}

impl Compiled {
    pub(super) fn new(plan: Plan, field_type: FieldType) -> Self {
        let nullable = matches!(plan, Plan::Null);
        Self {
            slot: Slot::plain(plan),
            field_type,
            nullable,
            column_name: None,
            types: 1,
            depth: 1,
        }
    }

    pub(super) fn called(mut self, annotations: Annotations<'_>) -> Self {
        self.column_name = annotations.column_name().map(str::to_owned);
        self
    }

    /// Adds the size of a part.
    pub(super) fn containing(mut self, types: usize, depth: usize) -> Self {
        self.types += types;
        self.depth += depth;
        self
    }

    pub(super) fn into_field(self, name: String) -> Field {
        Field {
            name,
            field_type: self.field_type,
            nullable: self.nullable,
        }
    }
}

/// `VariableScaleDecimal`, if it has the two fields that it has to have, and no other.
pub(super) fn variable_decimal(meaning: &str, fields: &[FieldPlan]) -> Option<Plan> {
    let [first, second] = fields else { return None };
    let plain = |field: &FieldPlan| field.slot.branches == 0;
    if meaning != "io.debezium.data.VariableScaleDecimal" || !plain(first) || !plain(second) {
        return None;
    }
    match (
        (&*first.name, &first.slot.plan),
        (&*second.name, &second.slot.plan),
    ) {
        (("scale", Plan::Int), ("value", Plan::Bytes)) => {
            Some(Plan::VariableDecimal { scale_first: true })
        }
        (("value", Plan::Bytes), ("scale", Plan::Int)) => {
            Some(Plan::VariableDecimal { scale_first: false })
        }
        _ => None,
    }
}

/// The name of a union's branch, as Connect names the field of its struct.
pub(super) fn branch_name(branch: &Value) -> String {
    let name = match branch
        .get("name")
        .or_else(|| branch.get("type"))
        .unwrap_or(branch)
    {
        Value::String(name) => name,
        _ => "value",
    };
    name.rsplit('.').next().unwrap_or(name).to_owned()
}

/// A union of several types is a struct of nullable fields, one of them set, as Connect has it.
pub(super) fn several_types(branches: Vec<(String, Compiled)>) -> Compiled {
    let types = branches.iter().map(|(_, branch)| branch.types).sum();
    let depth = branches
        .iter()
        .map(|(_, branch)| branch.depth)
        .max()
        .unwrap_or(0);
    let (mut arms, mut fields) = (Vec::with_capacity(branches.len()), Vec::new());
    let mut nullable = false;
    for (name, branch) in branches {
        let plan = branch.slot.plan.clone();
        if matches!(plan, Plan::Null) {
            nullable = true;
            arms.push(Arm { field: None, plan });
            continue;
        }
        arms.push(Arm {
            field: Some(fields.len()),
            plan,
        });
        fields.push(Field {
            name,
            field_type: branch.field_type,
            nullable: true,
        });
    }
    let plan = Plan::Union {
        arms: arms.into(),
        fields: fields.len(),
    };
    let field_type = FieldType::Struct(RecordType {
        full_name: String::new(),
        fields,
    });
    Compiled {
        nullable,
        ..Compiled::new(plan, field_type).containing(types, depth)
    }
}
