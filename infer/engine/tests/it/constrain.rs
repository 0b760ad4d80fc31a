//! Answers held to a form: what may come next.

use retort_engine::constrain::{Form, Forms};
use retort_engine::tokenizer::Tokenizer;
use retort_test_kit::vocabulary;
use serde_json::{Value, json};

/// Follows `text` byte by byte; how many bytes were taken.
fn follow(form: &Form, text: &str) -> usize {
    let tokenizer = Tokenizer::new(vocabulary()).unwrap();
    let forms = Forms::new(&tokenizer).unwrap();
    let mut constraint = forms.compile(form).unwrap();
    for (index, byte) in text.bytes().enumerate() {
        let id = (0..256).find(|&id| tokenizer.bytes(id) == [byte]).unwrap();
        if !constraint.allowed().unwrap().has(id) {
            return index;
        }
        constraint.take(id).unwrap();
    }
    text.len()
}

#[test]
fn white_space_in_json_is_bounded() {
    let array = json!({"type": "array", "items": {"type": "boolean"}});
    let tuple = json!({"type": "array", "prefixItems": [{"type": "boolean"}], "items": true});
    let forms = [array, tuple, json!(true), json!({})].map(Form::JsonSchema);
    for form in forms {
        let all = |text: &str| assert_eq!(follow(&form, text), text.len(), "{form:?}: {text:?}");
        all("[true, false]");
        all("[true,false]");
        all("[\n  true,\n  false\n]");
        all("[\r\n\ttrue, \n\tfalse\r\n]");
        let deep = format!("[\n{}", " ".repeat(40));
        assert_eq!(follow(&form, &deep), 18, "{form:?}");
        for endless in [
            "[\n\n\n\n\n\n",
            "[      ",
            "[true\n \n \n \n \n",
            "[true   ,",
        ] {
            assert!(
                follow(&form, endless) < endless.len(),
                "{form:?}: {endless:?}"
            );
        }
    }
    let object = "{\"a\":\n\n\n";
    assert!(follow(&Form::JsonObject, object) < object.len());
    let indented = "{\n  \"a\": [1, {}]\n}";
    assert_eq!(follow(&Form::JsonObject, indented), indented.len());
}

#[test]
fn a_schema_may_say_how_much_white_space_there_is() {
    let of = |options: Value| {
        let schema = json!({"type": "array", "items": {"type": "boolean"}, "x-guidance": options});
        follow(&Form::JsonSchema(schema), "[    true]")
    };
    assert_eq!(of(json!({})), 2);
    assert_eq!(of(json!({"whitespace_pattern": " {0,2}"})), 3);
    assert_eq!(of(json!({"whitespace_pattern": " {0,9}"})), 10);
    assert_eq!(of(json!({"whitespace_flexible": false})), 1);
}
