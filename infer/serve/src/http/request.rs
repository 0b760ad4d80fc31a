//! What completions and chat completions have in common: sampling, stop sequences, and the form of an answer.

use serde_json::Value;

use super::error::ApiError;
use super::json_fields::{self, Fields};
use retort_engine::constrain::Form;
use retort_engine::sampling::{Mirostat, Sampling};

type Result<T> = std::result::Result<T, ApiError>;

/// Answers to one prompt at most.
const MAX_N: u64 = 32;
/// Stop sequences, and bytes of each.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 1024;
/// Tokens whose logits a request may change.
const MAX_BIASES: usize = 1024;
/// Likeliest tokens that a request may ask for.
pub(super) const MAX_TOP: u64 = 20;

/// How answers are made, for both kinds of completions.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub sampling: Sampling,
    pub stops: Vec<String>,
    pub n: u64,
    pub stream: bool,
    pub include_usage: bool,
    pub form: Option<Form>,
    pub ignore_end: bool,
}

impl Options {
    pub fn read(fields: &Fields) -> Result<Self> {
        let usage = match fields.get("stream_options") {
            None => false,
            Some(options) => Fields::of(options, "stream_options")?.flag("include_usage")?,
        };
        Ok(Self {
            sampling: sampling(fields)?,
            stops: stops(fields)?,
            n: fields.integer("n", 1..=MAX_N)?.unwrap_or(1),
            stream: fields.flag("stream")?,
            include_usage: usage,
            form: form(fields)?,
            ignore_end: fields.flag("ignore_eos")?,
        })
    }
}

/// OpenAI's settings with its defaults, and those of this engine besides.
fn sampling(fields: &Fields) -> Result<Sampling> {
    let number = |name: &str, range, default: f32| -> Result<f32> {
        Ok(fields.number(name, range)?.unwrap_or(default))
    };
    let tiny = f32::MIN_POSITIVE;
    let mirostat = match fields.integer("mirostat", 0..=2)? {
        Some(2) => Some(Mirostat {
            tau: number("mirostat_tau", tiny..=20.0, 5.0)?,
            eta: number("mirostat_eta", 0.0..=1.0, 0.1)?,
        }),
        Some(1) => {
            return Err(ApiError::field(
                "mirostat",
                "only 2, its second form, is known",
            ));
        }
        _ => None,
    };
    let seed = match fields.get("seed") {
        // clients send -1 for none
        Some(Value::Number(seed)) if seed.as_i64().is_some_and(|seed| seed < 0) => None,
        _ => fields.integer("seed", 0..=u64::MAX)?,
    };
    Ok(Sampling {
        temperature: number("temperature", 0.0..=5.0, 1.0)?,
        top_k: match fields.get("top_k") {
            Some(Value::Number(k)) if k.as_i64() == Some(-1) => 0,
            _ => fields
                .integer("top_k", 0..=u64::from(u32::MAX))?
                .unwrap_or(0) as usize,
        },
        top_p: match number("top_p", 0.0..=1.0, 1.0)? {
            // OpenAI takes 0, which leaves the most likely token
            0.0 => tiny,
            p => p,
        },
        min_p: number("min_p", 0.0..=1.0, 0.0)?,
        typical_p: number("typical_p", tiny..=1.0, 1.0)?,
        repetition_penalty: number("repetition_penalty", 0.01..=10.0, 1.0)?,
        presence_penalty: number("presence_penalty", -2.0..=2.0, 0.0)?,
        frequency_penalty: number("frequency_penalty", -2.0..=2.0, 0.0)?,
        logit_bias: biases(fields)?,
        mirostat,
        seed: seed.unwrap_or_else(rand::random),
    })
}

fn biases(fields: &Fields) -> Result<Vec<(u32, f32)>> {
    let name = "logit_bias";
    let Some(map) = fields.object(name)? else {
        return Ok(Vec::new());
    };
    if map.len() > MAX_BIASES {
        return Err(ApiError::field(
            name,
            format!("at most {MAX_BIASES} tokens"),
        ));
    }
    let bias = |(id, value): (&String, &Value)| {
        let bad = || ApiError::field(name, format!("{id:?} is no token's number"));
        let bias = json_fields::number(value, name, -100.0..=100.0)?;
        // as OpenAI says: -100 bans a token
        let bias = if bias <= -100.0 {
            f32::NEG_INFINITY
        } else {
            bias
        };
        Ok((id.parse().map_err(|_| bad())?, bias))
    };
    map.iter().map(bias).collect()
}

fn stops(fields: &Fields) -> Result<Vec<String>> {
    let name = "stop";
    let texts = match fields.get(name) {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().collect(),
        Some(one) => vec![one],
    };
    if texts.len() > MAX_STOPS {
        return Err(ApiError::field(
            name,
            format!("at most {MAX_STOPS} sequences"),
        ));
    }
    let mut stops = Vec::new();
    for value in texts {
        let stop = json_fields::text(value, name)?;
        if stop.len() > MAX_STOP_BYTES {
            let problem = format!("a sequence has more than {MAX_STOP_BYTES} bytes");
            return Err(ApiError::field(name, problem));
        }
        // an empty one would end every answer before it begins
        if !stop.is_empty() {
            stops.push(stop.to_owned());
        }
    }
    Ok(stops)
}

/// `response_format` as OpenAI has it, or vLLM's `guided_json`, `guided_regex`, `guided_grammar`.
fn form(fields: &Fields) -> Result<Option<Form>> {
    let mut forms = Vec::new();
    if let Some(format) = fields.get("response_format") {
        let name = "response_format";
        let format = Fields::of(format, name)?;
        match format.text("type")? {
            Some("text") | None => {}
            Some("json_object") => forms.push(Form::JsonObject),
            Some("json_schema") => {
                let schema = Fields::of(format.required("json_schema")?, "json_schema")?;
                forms.push(Form::JsonSchema(schema.required("schema")?.clone()));
            }
            Some(other) => {
                let problem = format!("{other:?} is none of text, json_object, json_schema");
                return Err(ApiError::field(name, problem));
            }
        }
    }
    if let Some(schema) = fields.get("guided_json") {
        let parsed = |text: &str| {
            let bad = |error| ApiError::field("guided_json", format!("no JSON: {error}"));
            serde_json::from_str(text).map_err(bad)
        };
        let schema = schema.as_str().map_or_else(|| Ok(schema.clone()), parsed)?;
        forms.push(Form::JsonSchema(schema));
    }
    if let Some(text) = fields.text("guided_regex")? {
        forms.push(Form::Regex(text.to_owned()));
    }
    if let Some(text) = fields.text("guided_grammar")? {
        forms.push(Form::Lark(text.to_owned()));
    }
    match forms.len() {
        0 | 1 => Ok(forms.pop()),
        _ => Err(ApiError::bad("an answer can be held to one form only")),
    }
}
