//! Metadata values: the thirteen types of the specification, arrays of one scalar type (arrays of arrays, which no
//! known file uses, are refused by the parser).

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names are the specification's type names
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names are the specification's type names
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    Str(Vec<String>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// The type id of an array in a file.
pub(super) const ARRAY: u32 = 9;

impl Value {
    /// The type id in a file.
    pub(super) fn id(&self) -> u32 {
        match self {
            Value::U8(_) => 0,
            Value::I8(_) => 1,
            Value::U16(_) => 2,
            Value::I16(_) => 3,
            Value::U32(_) => 4,
            Value::I32(_) => 5,
            Value::F32(_) => 6,
            Value::Bool(_) => 7,
            Value::Str(_) => 8,
            Value::Array(_) => ARRAY,
            Value::U64(_) => 10,
            Value::I64(_) => 11,
            Value::F64(_) => 12,
        }
    }

    /// The value as an integer, whatever its width, if it is one.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// The value as a single-precision number, if it is floating-point.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// The type and a short form of the value, for messages.
    pub fn describe(&self) -> String {
        match self {
            Value::Str(_) => format!("the string {self}"),
            Value::Array(_) => format!("an array of {self}"),
            Value::Bool(_) => format!("the boolean {self}"),
            Value::F32(_) | Value::F64(_) => format!("the number {self}"),
            _ => format!("the integer {self}"),
        }
    }
}

/// A short form on one line: strings quoted and cut, arrays as the number of their elements.
impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Str(s) if s.chars().count() > 60 => {
                write!(f, "{:?}…", s.chars().take(60).collect::<String>())
            }
            Value::Str(s) => write!(f, "{s:?}"),
            Value::Array(a) => write!(f, "{} {}", a.len(), a.element_name()),
            Value::Bool(v) => write!(f, "{v}"),
            Value::F32(v) => write!(f, "{v}"),
            Value::F64(v) => write!(f, "{v}"),
            other => write!(f, "{}", other.as_integer().unwrap_or(0)),
        }
    }
}

impl Array {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(a) => a.len(),
            Array::I8(a) => a.len(),
            Array::U16(a) => a.len(),
            Array::I16(a) => a.len(),
            Array::U32(a) => a.len(),
            Array::I32(a) => a.len(),
            Array::F32(a) => a.len(),
            Array::Bool(a) => a.len(),
            Array::Str(a) => a.len(),
            Array::U64(a) => a.len(),
            Array::I64(a) => a.len(),
            Array::F64(a) => a.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the elements are called, in the plural.
    fn element_name(&self) -> &'static str {
        match self {
            Array::Str(_) => "strings",
            Array::Bool(_) => "booleans",
            Array::F32(_) | Array::F64(_) => "numbers",
            _ => "integers",
        }
    }

    /// The elements as 32-bit integers, if they are integers and all fit.
    pub fn to_i32(&self) -> Option<Vec<i32>> {
        fn all<T: Copy + TryInto<i32>>(a: &[T]) -> Option<Vec<i32>> {
            a.iter().map(|&v| v.try_into().ok()).collect()
        }
        match self {
            Array::U8(a) => all(a),
            Array::I8(a) => all(a),
            Array::U16(a) => all(a),
            Array::I16(a) => all(a),
            Array::U32(a) => all(a),
            Array::I32(a) => all(a),
            Array::U64(a) => all(a),
            Array::I64(a) => all(a),
            _ => None,
        }
    }
}

macro_rules! conversions {
    ($($from:ty => $value:ident),*) => { $(
        impl From<$from> for Value {
            fn from(v: $from) -> Value { Value::$value(v) }
        }
        impl From<Vec<$from>> for Value {
            fn from(v: Vec<$from>) -> Value { Value::Array(Array::$value(v)) }
        }
    )* };
}

conversions!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64,
    f32 => F32, f64 => F64, bool => Bool, String => Str);

impl From<&str> for Value {
    fn from(v: &str) -> Value {
        Value::Str(v.to_owned())
    }
}
