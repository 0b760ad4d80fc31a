//! The fields that completions and chat completions share: sampling, stop sequences, number and
//! form of the answers.
//!
//! In: the request's JSON, with OpenAI's names and the extensions of vLLM and llama.cpp. Out:
//! checked [`GenerationParams`].

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::body::{JsonBody, in_range};
use super::error::{ApiError, Result};
use retort_engine::constrain::Form;
use retort_engine::sampling::{Mirostat, Sampling};

/// Answers to one prompt at most.
const MAX_N: usize = 32;
/// Stop sequences, and bytes of each.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 1024;
/// Tokens whose logits a request may change.
const MAX_BIASES: usize = 1024;
/// Likeliest tokens that a request may ask for.
pub(super) const MAX_TOP_LOGPROBS: usize = 20;

/// How answers are made, for both kinds of completions.
#[derive(Clone, Debug)]
pub(super) struct GenerationParams {
    pub sampling: Sampling,
    pub stops: Vec<String>,
    /// Answers to each prompt.
    pub n: usize,
    pub stream: bool,
    pub include_usage: bool,
    pub form: Option<Form>,
    pub ignore_end: bool,
}

impl GenerationParams {
    pub fn read(body: &JsonBody) -> Result<Self> {
        let mut fields: GenerationFields = body.read()?;
        Ok(Self {
            sampling: fields.sampling()?,
            stops: fields.stops()?,
            n: in_range("n", fields.n.unwrap_or(1), 1..=MAX_N)?,
            stream: fields.stream,
            include_usage: fields.stream_options.include_usage.unwrap_or(false),
            ignore_end: fields.ignore_eos,
            form: fields.form()?,
        })
    }
}

/// The request's fields. Sampling has OpenAI's defaults.
#[derive(Default, Deserialize)]
#[serde(default)]
struct GenerationFields {
    n: Option<usize>,
    stream: bool,
    stream_options: StreamOptions,
    stop: Option<Stop>,
    ignore_eos: bool,
    temperature: Option<f32>,
    top_k: Option<i64>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    repetition_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: BTreeMap<String, f32>,
    mirostat: u8,
    mirostat_tau: Option<f32>,
    mirostat_eta: Option<f32>,
    seed: Option<i128>,
    /// The form of the answer as OpenAI has it, or as vLLM has it.
    response_format: ResponseFormat,
    guided_json: Option<Value>,
    guided_regex: Option<String>,
    guided_grammar: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(expecting = "an object")]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or an array of strings is needed")]
enum Stop {
    One(String),
    Several(Vec<String>),
}

#[derive(Default, Deserialize)]
#[serde(expecting = "an object")]
struct ResponseFormat {
    r#type: Option<FormatType>,
    json_schema: Option<NamedSchema>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum FormatType {
    Text,
    JsonObject,
    JsonSchema,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct NamedSchema {
    schema: Value,
}

impl GenerationFields {
    fn sampling(&self) -> Result<Sampling> {
        let number = |name, value: Option<f32>, default, range| {
            in_range(name, value.unwrap_or(default), range)
        };
        let tiny = f32::MIN_POSITIVE;
        let mirostat = match self.mirostat {
            0 => None,
            2 => Some(Mirostat {
                tau: number("mirostat_tau", self.mirostat_tau, 5.0, tiny..=20.0)?,
                eta: number("mirostat_eta", self.mirostat_eta, 0.1, 0.0..=1.0)?,
            }),
            _ => {
                let problem = "only 2, the second version of mirostat, is supported; 0 is off";
                return Err(ApiError::field("mirostat", problem));
            }
        };
        let top_k = in_range("top_k", self.top_k.unwrap_or(0), -1..=u32::MAX.into())?;
        let seed = self.seed.and_then(|seed| u64::try_from(seed).ok());
        let repetition = self.repetition_penalty;
        let presence = self.presence_penalty;
        let frequency = self.frequency_penalty;
        Ok(Sampling {
            temperature: number("temperature", self.temperature, 1.0, 0.0..=5.0)?,
            // clients send -1 for all
            top_k: top_k.max(0) as usize,
            // OpenAI takes 0, which leaves the most likely token
            top_p: number("top_p", self.top_p, 1.0, 0.0..=1.0)?.max(tiny),
            min_p: number("min_p", self.min_p, 0.0, 0.0..=1.0)?,
            typical_p: number("typical_p", self.typical_p, 1.0, tiny..=1.0)?,
            repetition_penalty: number("repetition_penalty", repetition, 1.0, 0.01..=10.0)?,
            presence_penalty: number("presence_penalty", presence, 0.0, -2.0..=2.0)?,
            frequency_penalty: number("frequency_penalty", frequency, 0.0, -2.0..=2.0)?,
            logit_bias: self.logit_bias()?,
            mirostat,
            // clients send -1 for none
            seed: seed.unwrap_or_else(rand::random),
        })
    }

    fn logit_bias(&self) -> Result<Vec<(u32, f32)>> {
        let wrong = |problem: String| ApiError::field("logit_bias", problem);
        if self.logit_bias.len() > MAX_BIASES {
            return Err(wrong(format!("at most {MAX_BIASES} tokens")));
        }
        let bias = |(id, &bias): (&String, &f32)| {
            let not_an_id = |_| wrong(format!("{id:?} is not the id of a token"));
            let bias = in_range("logit_bias", bias, -100.0..=100.0)?;
            // as OpenAI says: -100 bans a token
            let bias = if bias == -100.0 {
                f32::NEG_INFINITY
            } else {
                bias
            };
            Ok((id.parse().map_err(not_an_id)?, bias))
        };
        self.logit_bias.iter().map(bias).collect()
    }

    fn stops(&mut self) -> Result<Vec<String>> {
        let mut stops = match self.stop.take() {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop],
            Some(Stop::Several(stops)) => stops,
        };
        if stops.len() > MAX_STOPS || stops.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
            let problem = format!("at most {MAX_STOPS} sequences of {MAX_STOP_BYTES} bytes each");
            return Err(ApiError::field("stop", problem));
        }
        // an empty one would end every answer before it begins
        stops.retain(|stop| !stop.is_empty());
        Ok(stops)
    }

    fn form(self) -> Result<Option<Form>> {
        let ResponseFormat {
            r#type,
            json_schema,
        } = self.response_format;
        let response_format = match r#type {
            None | Some(FormatType::Text) => None,
            Some(FormatType::JsonObject) => Some(Form::JsonObject),
            Some(FormatType::JsonSchema) => {
                let name = "response_format.json_schema";
                let missing = || ApiError::field(name, "this field is required");
                Some(Form::JsonSchema(json_schema.ok_or_else(missing)?.schema))
            }
        };
        let guided_json = match self.guided_json {
            Some(Value::String(text)) => serde_json::from_str(&text).map_err(|error| {
                ApiError::field("guided_json", format!("it is not JSON: {error}"))
            })?,
            schema => schema,
        };
        let forms = [
            response_format,
            guided_json.map(Form::JsonSchema),
            self.guided_regex.map(Form::Regex),
            self.guided_grammar.map(Form::Lark),
        ];
        let mut forms = forms.into_iter().flatten();
        match (forms.next(), forms.next()) {
            (form, None) => Ok(form),
            _ => Err(ApiError::bad("an answer can be held to one form only")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<GenerationParams> {
        GenerationParams::read(&JsonBody::parse(value.to_string().as_bytes())?)
    }

    #[test]
    fn defaults_are_openais() {
        let params = read(json!({"seed": 7, "stop": null})).unwrap();
        let plain = Sampling {
            seed: 7,
            ..Sampling::plain()
        };
        assert_eq!(params.sampling, plain);
        assert_eq!((params.n, params.stream, params.form), (1, false, None));
    }

    #[test]
    fn values_that_clients_send_for_none_are_taken() {
        let body = json!({
            "top_k": -1, "seed": -1, "top_p": 0, "stop": ["", "x"], "mirostat": 0,
            "logit_bias": {"3": -100, "4": 1.5}, "response_format": {"type": "text"},
            "stream_options": {"include_usage": null},
        });
        let params = read(body).unwrap();
        assert_eq!(params.sampling.top_k, 0);
        assert_eq!(params.sampling.top_p, f32::MIN_POSITIVE);
        assert_eq!(params.stops, ["x"]);
        assert_eq!(
            params.sampling.logit_bias,
            [(3, f32::NEG_INFINITY), (4, 1.5)]
        );
        assert_eq!(params.form, None);
        let largest = read(json!({"seed": u64::MAX})).unwrap();
        assert_eq!(largest.sampling.seed, u64::MAX);
    }

    #[test]
    fn a_wrong_field_is_named_by_its_path() {
        let schema = |schema: Value| json!({"type": "json_schema", "json_schema": schema});
        for (field, value, param) in [
            ("stop", json!([1]), "stop"),
            ("stop", json!(vec!["x"; 17]), "stop"),
            ("stop", json!("x".repeat(1025)), "stop"),
            (
                "stream_options",
                json!({"include_usage": 1}),
                "stream_options.include_usage",
            ),
            ("logit_bias", json!({"5": "x"}), "logit_bias.5"),
            ("logit_bias", json!({"x": 5}), "logit_bias"),
            ("top_k", json!(-2), "top_k"),
            (
                "response_format",
                json!({"type": "xml"}),
                "response_format.type",
            ),
            (
                "response_format",
                schema(json!(null)),
                "response_format.json_schema",
            ),
            (
                "response_format",
                schema(json!({})),
                "response_format.json_schema.schema",
            ),
            ("guided_json", json!("{"), "guided_json"),
            ("guided_regex", json!(1), "guided_regex"),
        ] {
            let error = read(json!({field: value})).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
        }
    }
}
