//! Metadata values: the thirteen types of the specification, arrays of one scalar type (arrays of arrays, which no
//! known file uses, are refused).

use super::reader::{CUT_SHORT, Parsed, Reader, Scalar};

/// The type id of an array in a file.
const ARRAY: u32 = 9;

macro_rules! scalars {
    ($($name:ident($ty:ty) = $id:literal),* $(,)?) => {
        /// A metadata value.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)] // the names are the specification's type names
        pub enum Value {
            $($name($ty),)*
            Array(Array),
        }

        /// An array value.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)] // the names are the specification's type names
        pub enum Array {
            $($name(Vec<$ty>),)*
        }

        impl Value {
            /// Reads the value of `key`, after the key.
            pub(super) fn read(r: &mut Reader, key: &str) -> Parsed<Self> {
                let what = format!("metadata key {key}");
                Ok(match r.u32("metadata type")? {
                    $($id => Self::$name(Scalar::read(r, &what)?),)*
                    ARRAY => Self::Array(Array::read(r, &what)?),
                    id => return Err(format!("{what} has unknown type {id}; {CUT_SHORT}")),
                })
            }

            /// Appends its type and itself.
            pub(super) fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name(value) => {
                        u32::write(&$id, out);
                        value.write(out);
                    })*
                    Self::Array(array) => {
                        ARRAY.write(out);
                        array.write(out);
                    }
                }
            }
        }

        impl Array {
            fn read(r: &mut Reader, what: &str) -> Parsed<Self> {
                let id = r.u32(what)?;
                let n = r.u64(what)?;
                Ok(match id {
                    $($id => Self::$name(elements(r, n, what)?),)*
                    ARRAY => {
                        return Err(format!("{what} is an array of arrays, which is not read here"));
                    }
                    _ => {
                        return Err(format!("{what} is an array of unknown type {id}; {CUT_SHORT}"));
                    }
                })
            }

            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name(elements) => {
                        u32::write(&$id, out);
                        (elements.len() as u64).write(out);
                        elements.iter().for_each(|element| element.write(out));
                    })*
                }
            }

            /// The number of elements.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$name(elements) => elements.len(),)*
                }
            }
        }

        $(
            impl From<$ty> for Value {
                fn from(value: $ty) -> Self {
                    Self::$name(value)
                }
            }

            impl From<Vec<$ty>> for Value {
                fn from(elements: Vec<$ty>) -> Self {
                    Self::Array(Array::$name(elements))
                }
            }
        )*
    };
}

scalars! {
    U8(u8) = 0, I8(i8) = 1, U16(u16) = 2, I16(i16) = 3, U32(u32) = 4, I32(i32) = 5, F32(f32) = 6,
    Bool(bool) = 7, Str(String) = 8, U64(u64) = 10, I64(i64) = 11, F64(f64) = 12,
}

fn elements<T: Scalar>(r: &mut Reader, n: u64, what: &str) -> Parsed<Vec<T>> {
    let n = r.bounded(n, T::LEAST, &what)?;
    let element = |i| T::read(r, &format_args!("{what}, element {i}"));
    (0..n).map(element).collect()
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Str(value.to_owned())
    }
}

impl Value {
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
