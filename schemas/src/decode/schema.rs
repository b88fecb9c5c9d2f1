//! From a schema's JSON to a plan and the type that it yields.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::compiled::{Compiled, branch_name, several_types, variable_decimal};
use super::error::SchemaError;
use super::meaning::Annotations;
use super::plan::{FieldPlan, Plan, Slot};
use crate::name;
use crate::record::{FieldType, RecordType};

/// The most types of one schema, references followed: enough for the widest table of Postgres
/// (1,600 columns, each an array of records, twice in an envelope).
const MAX_TYPES: usize = 65_536;
/// The deepest nesting of types: it bounds the recursion of every read.
const MAX_DEPTH: usize = 32;

/// Compiles a whole schema.
pub(super) fn compile(schema_json: &str) -> Result<Compiled, SchemaError> {
    let schema: Value =
        serde_json::from_str(schema_json).map_err(|error| SchemaError::Json(error.to_string()))?;
    let mut compiler = Compiler {
        named: HashMap::new(),
        path: Vec::new(),
        types: 0,
    };
    compiler.schema(&schema, "")
}

struct Compiler {
    /// By full name; `None` while the definition is being read.
    named: HashMap<String, Option<Compiled>>,
    path: Vec<String>,
    types: usize,
}

impl Compiler {
    fn schema(&mut self, schema: &Value, namespace: &str) -> Result<Compiled, SchemaError> {
        let compiled = match schema {
            Value::String(name) => self.named_type(name, Annotations::NONE, namespace),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => match object.get("type") {
                Some(Value::String(name)) => self.complex(name, object, namespace),
                Some(inner @ (Value::Object(_) | Value::Array(_))) => self.schema(inner, namespace),
                _ => Err(self.invalid("a schema object needs a 'type'")),
            },
            _ => Err(self.invalid("a schema is a name, an object or a list")),
        }?;
        if compiled.depth + self.path.len() > MAX_DEPTH {
            return Err(Self::too_large());
        }
        Ok(compiled)
    }

    fn complex(
        &mut self,
        name: &str,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<Compiled, SchemaError> {
        let annotations = Annotations::of(object);
        match name {
            "array" => self.array(object, namespace),
            "map" => self.map(object, namespace),
            "record" | "error" => self.define(object, namespace, Self::record),
            "enum" => self.define(object, namespace, Self::enumeration),
            "fixed" => self.define(object, namespace, Self::fixed),
            _ => return self.named_type(name, annotations, namespace),
        }
        .map(|compiled| compiled.called(annotations))
    }

    /// A primitive type, or one defined before.
    fn named_type(
        &mut self,
        name: &str,
        annotations: Annotations<'_>,
        namespace: &str,
    ) -> Result<Compiled, SchemaError> {
        let (plan, field_type) = match name {
            "null" => (Plan::Null, FieldType::String),
            "boolean" => (Plan::Boolean, FieldType::Bool),
            "int" => (Plan::Int, annotations.of_int()),
            "long" => (Plan::Long, annotations.of_long()),
            "float" => (Plan::Float, FieldType::Float32),
            "double" => (Plan::Double, FieldType::Float64),
            "string" => (Plan::String, annotations.of_string()),
            "bytes" => (
                Plan::Bytes,
                annotations
                    .of_bytes()
                    .map_err(|problem| self.invalid(&problem))?,
            ),
            _ => return Ok(self.reference(name, namespace)?.called(annotations)),
        };
        self.count(1)?;
        Ok(Compiled::new(plan, field_type).called(annotations))
    }

    /// A type defined before. Its column name stays behind: that is of the column that defined it.
    fn reference(&mut self, name: &str, namespace: &str) -> Result<Compiled, SchemaError> {
        let full_name = full_name(name, namespace);
        // As Java's parser does: a short name that its namespace lacks is looked for outside of any.
        let found = self
            .named
            .get_key_value(&full_name)
            .or_else(|| self.named.get_key_value(name));
        let compiled = match found {
            Some((_, Some(compiled))) => compiled.clone(),
            Some((full_name, None)) => {
                return Err(SchemaError::Recursive {
                    at: self.at(),
                    name: full_name.clone(),
                });
            }
            None => {
                return Err(SchemaError::UnknownType {
                    at: self.at(),
                    name: name.to_owned(),
                });
            }
        };
        self.count(compiled.types)?;
        Ok(compiled)
    }

    /// Names a record, an enum or a fixed, and reads its definition.
    fn define(
        &mut self,
        object: &Map<String, Value>,
        namespace: &str,
        read: impl FnOnce(&mut Self, &Map<String, Value>, &str, &str) -> Result<Compiled, SchemaError>,
    ) -> Result<Compiled, SchemaError> {
        let name = object
            .get("name")
            .and_then(Value::as_str)
            .ok_or_else(|| self.invalid("the type needs a 'name'"))?;
        let own_namespace = object
            .get("namespace")
            .and_then(Value::as_str)
            .unwrap_or(namespace);
        let full_name = full_name(name, own_namespace);
        let inner_namespace = full_name
            .rsplit_once('.')
            .map_or("", |(namespace, _)| namespace);
        if self.named.insert(full_name.clone(), None).is_some() {
            return Err(self.invalid(&format!("the type '{full_name}' is defined twice")));
        }
        self.count(1)?;
        let compiled = read(self, object, &full_name, inner_namespace)?;
        self.named.insert(full_name, Some(compiled.clone()));
        Ok(compiled)
    }

    fn record(
        &mut self,
        object: &Map<String, Value>,
        full_name: &str,
        namespace: &str,
    ) -> Result<Compiled, SchemaError> {
        let fields = object.get("fields").and_then(Value::as_array);
        let fields = fields.ok_or_else(|| self.invalid("a record needs its 'fields'"))?;
        let (mut plans, mut types) = (
            Vec::with_capacity(fields.len()),
            Vec::with_capacity(fields.len()),
        );
        let (mut inner_types, mut inner_depth) = (0, 0);
        for field in fields {
            let name = field.get("name").and_then(Value::as_str);
            let name = name.ok_or_else(|| self.invalid("a field needs a 'name'"))?;
            let schema = field
                .get("type")
                .ok_or_else(|| self.invalid(&format!("the field '{name}' has no 'type'")))?;
            let compiled = self.within(name, schema, namespace)?;
            inner_types += compiled.types;
            inner_depth = inner_depth.max(compiled.depth);
            let told = field
                .as_object()
                .and_then(|field| Annotations::of(field).column_name());
            let column = told
                .map(str::to_owned)
                .or_else(|| compiled.column_name.clone());
            plans.push(FieldPlan {
                name: name.into(),
                slot: compiled.slot.clone(),
            });
            types.push(compiled.into_field(column.unwrap_or_else(|| name::unescape(name))));
        }
        let meaning = Annotations::of(object).connect_name().unwrap_or(full_name);
        let compiled = match variable_decimal(meaning, &plans) {
            Some(plan) => Compiled::new(plan, FieldType::VariableDecimal),
            None => {
                let record_type = RecordType {
                    full_name: full_name.to_owned(),
                    fields: types,
                };
                Compiled::new(Plan::Record(plans.into()), FieldType::Struct(record_type))
            }
        };
        Ok(compiled.containing(inner_types, inner_depth))
    }

    fn enumeration(
        &mut self,
        object: &Map<String, Value>,
        _: &str,
        _: &str,
    ) -> Result<Compiled, SchemaError> {
        let symbols = object.get("symbols").and_then(Value::as_array);
        let symbols: Option<Vec<_>> = symbols.and_then(|symbols| {
            symbols
                .iter()
                .map(|symbol| symbol.as_str().map(str::to_owned))
                .collect()
        });
        let symbols = symbols.ok_or_else(|| self.invalid("an enum needs its 'symbols'"))?;
        Ok(Compiled::new(Plan::Enum(symbols.into()), FieldType::Enum))
    }

    fn fixed(
        &mut self,
        object: &Map<String, Value>,
        _: &str,
        _: &str,
    ) -> Result<Compiled, SchemaError> {
        let size = object
            .get("size")
            .and_then(Value::as_u64)
            .and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or_else(|| self.invalid("a fixed needs its 'size'"))?;
        Ok(Compiled::new(
            Plan::Fixed(size),
            Annotations::of(object).of_fixed(),
        ))
    }

    fn array(
        &mut self,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<Compiled, SchemaError> {
        let items = object
            .get("items")
            .ok_or_else(|| self.invalid("an array needs its 'items'"))?;
        let item = self.within("[]", items, namespace)?;
        self.count(1)?;
        let (types, depth) = (item.types, item.depth);
        let plan = Plan::Array(Box::new(item.slot.clone()));
        let field_type = FieldType::Array(Box::new(item.into_field("item".to_owned())));
        Ok(Compiled::new(plan, field_type).containing(types, depth))
    }

    fn map(
        &mut self,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<Compiled, SchemaError> {
        let values = object
            .get("values")
            .ok_or_else(|| self.invalid("a map needs its 'values'"))?;
        let value = self.within("{}", values, namespace)?;
        self.count(1)?;
        let (types, depth) = (value.types, value.depth);
        let plan = Plan::Map(Box::new(value.slot.clone()));
        let field_type = FieldType::Map(Box::new(value.into_field("value".to_owned())));
        Ok(Compiled::new(plan, field_type).containing(types, depth))
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<Compiled, SchemaError> {
        let mut compiled = Vec::with_capacity(branches.len());
        for branch in branches {
            if branch.is_array() {
                return Err(self.invalid("a union stands directly in a union"));
            }
            compiled.push((branch_name(branch), self.schema(branch, namespace)?));
        }
        let is_null = |(_, branch): &(_, Compiled)| matches!(branch.slot.plan, Plan::Null);
        let nulls = compiled.iter().filter(|branch| is_null(branch)).count();
        if compiled.is_empty() || nulls > 1 {
            return Err(self.invalid("a union needs branches, of which one at most is null"));
        }
        if compiled.len() - nulls > 1 {
            return Ok(several_types(compiled));
        }
        let null_at = compiled
            .iter()
            .position(is_null)
            .and_then(|index| u8::try_from(index).ok());
        let branches = compiled.len() as u8;
        let value = compiled
            .iter()
            .position(|branch| !is_null(branch))
            .unwrap_or(0);
        let (_, mut value) = compiled.swap_remove(value);
        value.slot = Slot {
            branches,
            null_at: null_at.unwrap_or(Slot::NO_NULL),
            plan: value.slot.plan,
        };
        value.nullable = null_at.is_some();
        Ok(value)
    }

    fn within(
        &mut self,
        step: &str,
        schema: &Value,
        namespace: &str,
    ) -> Result<Compiled, SchemaError> {
        self.path.push(step.to_owned());
        let compiled = self.schema(schema, namespace)?;
        self.path.pop();
        Ok(compiled)
    }

    fn count(&mut self, types: usize) -> Result<(), SchemaError> {
        self.types += types;
        if self.types > MAX_TYPES {
            Err(Self::too_large())
        } else {
            Ok(())
        }
    }

    const fn too_large() -> SchemaError {
        SchemaError::TooLarge {
            limit: MAX_TYPES,
            depth: MAX_DEPTH,
        }
    }

    fn invalid(&self, problem: &str) -> SchemaError {
        SchemaError::Invalid {
            at: self.at(),
            problem: problem.to_owned(),
        }
    }

    fn at(&self) -> String {
        if self.path.is_empty() {
            "the top".to_owned()
        } else {
            self.path.join(".")
        }
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if namespace.is_empty() || name.contains('.') {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}
