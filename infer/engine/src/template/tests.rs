//! Templates in the forms that published models have, written for these tests.

use serde_json::{Value, json};

use super::{Input, MAX_OUTPUT, Template, TemplateError};

/// Turns in the form of ChatML, with a system message where the conversation brings none (as SmolLM2's).
const CHATML: &str = "\
{% for message in messages %}
{% if loop.first and messages[0]['role'] != 'system' %}
{{ '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}{% endif %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Headers around roles, trimmed contents, the day's date and a refusal (as Llama 3's).
const HEADERS: &str = "\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now('%d %b %Y') %}
{%- endif %}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{{- '<|header|>system<|/header|>\\n\\nToday: ' ~ date_string ~ '\\n' ~ system ~ eos_token }}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must take turns, user first') }}
    {%- endif %}
    {{- '<|header|>' + message.role + '<|/header|>\\n\\n' + message.content | trim + eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|header|>assistant<|/header|>\\n\\n' }}
{%- endif %}";

/// Tools as JSON, calls of them, and their answers gathered into one turn (as Qwen2.5's).
const TOOLS: &str = "\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- endif %}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(calls=0) %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    {%- if message.tool_calls %}
        {{- '<|im_start|>assistant' }}
        {%- for call in message.tool_calls %}
            {%- set ns.calls = ns.calls + 1 %}
            {%- if call.function is defined %}{%- set call = call.function %}{%- endif %}
            {{- '\\n{\"name\": \"' ~ call.name ~ '\", \"arguments\": ' ~ call.arguments | tojson ~ '}' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<answer>' ~ message.content ~ '</answer>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{{- ns.calls }} calls";

fn turns(turns: &[(&str, &str)]) -> Vec<Value> {
    let turn = |(role, content): &(&str, &str)| json!({"role": role, "content": content});
    turns.iter().map(turn).collect()
}

fn render(source: &str, messages: &[Value]) -> Result<String, TemplateError> {
    let template = Template::new(source, "<s>", "</s>").unwrap();
    template.render(&Input {
        messages,
        add_generation_prompt: true,
        ..Input::default()
    })
}

#[test]
fn chatml_with_a_system_message_of_its_own() {
    let text = render(
        CHATML,
        &turns(&[("user", "Hi."), ("assistant", "Yes?"), ("user", "<b>")]),
    );
    let expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n\
                    <|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\n<b><|im_end|>\n\
                    <|im_start|>assistant\n";
    assert_eq!(text.unwrap(), expected);
    let text = render(CHATML, &turns(&[("system", "Rhyme."), ("user", "Hi.")])).unwrap();
    assert!(text.starts_with("<|im_start|>system\nRhyme.<|im_end|>\n<|im_start|>user"));
}

#[test]
fn headers_with_the_date_and_the_order_of_turns() {
    let text = render(
        HEADERS,
        &turns(&[("system", " Be kind. "), ("user", " Hi. \n")]),
    )
    .unwrap();
    let today = chrono::Local::now().format("%d %b %Y");
    let expected = format!(
        "<s><|header|>system<|/header|>\n\nToday: {today}\nBe kind.</s>\
         <|header|>user<|/header|>\n\nHi.</s><|header|>assistant<|/header|>\n\n"
    );
    assert_eq!(text, expected);
    let refused = render(HEADERS, &turns(&[("user", "a"), ("user", "b")])).unwrap_err();
    assert_eq!(
        refused,
        TemplateError::Refused("roles must take turns, user first".into())
    );
    // a variable of the caller's
    let template = Template::new(HEADERS, "", "").unwrap();
    let more = json!({"date_string": "a day", "messages": "not these"});
    let messages = turns(&[("user", "x")]);
    let text = template.render(&Input {
        messages: &messages,
        more: more.as_object(),
        ..Input::default()
    });
    assert!(text.unwrap().contains("Today: a day\n"));
}

#[test]
fn tools_their_calls_and_their_answers() {
    let call = json!({"type": "function", "function": {"name": "add", "arguments": {"b": [1, "ü<"], "a": null}}});
    let messages = [
        json!({"role": "system", "content": "S"}),
        json!({"role": "user", "content": "1+1?"}),
        json!({"role": "assistant", "content": null, "tool_calls": [call, call]}),
        json!({"role": "tool", "content": "2"}),
        json!({"role": "tool", "content": "two"}),
    ];
    let tools = json!([{"name": "add", "b": 1, "a": 2}]);
    let template = Template::new(TOOLS, "", "").unwrap();
    let input = Input {
        messages: &messages,
        tools: Some(&tools),
        ..Input::default()
    };
    // keys stay in their order, spaced as Python spaces them, and nothing is escaped for HTML
    let called = "{\"name\": \"add\", \"arguments\": {\"b\": [1, \"ü<\"], \"a\": null}}";
    let expected = format!(
        "<|im_start|>system\nS\n{{\"name\": \"add\", \"b\": 1, \"a\": 2}}<|im_end|>\n\
         <|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n{called}\n{called}<|im_end|>\n\
         <|im_start|>user\n<answer>2</answer>\n<answer>two</answer><|im_end|>\n2 calls"
    );
    assert_eq!(template.render(&input).unwrap(), expected);
    // without tools
    let input = Input {
        messages: &messages[1..2],
        ..Input::default()
    };
    let text = template.render(&input).unwrap();
    assert_eq!(text, "<|im_start|>user\n1+1?<|im_end|>\n0 calls");
}

#[test]
fn helpers_are_pythons() {
    let of = |source: &str| render(source, &turns(&[("user", "a</t>b")])).unwrap();
    assert_eq!(of("{{ messages[0].content.split('</t>')[-1] }}"), "b");
    assert_eq!(of("{{ ' x '.strip().upper() }}"), "X");
    assert_eq!(
        of("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}"),
        "a1"
    );
    assert_eq!(
        of("{{ {'a': [1, 2]} | tojson(indent=2) }}"),
        "{\n  \"a\": [\n    1,\n    2\n  ]\n}"
    );
    assert_eq!(of("{{ nothing }}{{ messages[0].nothing }}"), "");
    assert_eq!(
        of("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"),
        "01"
    );
    assert_eq!(of("a\n{%- generation -%}\nb\n{%- endgeneration %}"), "ab");
    assert_eq!(
        of("{% if messages[0].content is string %}s{% endif %}"),
        "s"
    );
}

#[test]
fn tojson_writes_what_pythons_json_dumps_writes() {
    let of = |arguments: &str, value: Value| {
        let source = format!("{{{{ messages[0] | tojson{arguments} }}}}");
        render(&source, &[value]).unwrap()
    };
    let value = || json!({"b": 1, "a": [1, {"z": [], "y": {}}], "ü": "ü\u{7f}\u{1f600}\u{1}\"\\/"});
    assert_eq!(
        of("", value()),
        "{\"b\": 1, \"a\": [1, {\"z\": [], \"y\": {}}], \"ü\": \"ü\u{7f}\u{1f600}\\u0001\\\"\\\\/\"}"
    );
    let short = json!({"b": 1, "a": [1, {"z": 2, "y": null}]});
    for (arguments, expected) in [
        (
            "(separators=(',', ':'))",
            r#"{"b":1,"a":[1,{"z":2,"y":null}]}"#,
        ),
        (
            "(sort_keys=true)",
            r#"{"a": [1, {"y": null, "z": 2}], "b": 1}"#,
        ),
        (
            "(sort_keys=False, indent=None)",
            r#"{"b": 1, "a": [1, {"z": 2, "y": null}]}"#,
        ),
        (
            "(separators=(',', ':'), sort_keys=true)",
            r#"{"a":[1,{"y":null,"z":2}],"b":1}"#,
        ),
        // in json.dumps' order as transformers has it
        (
            "(false, none, [';', '='], true)",
            r#"{"a"=[1;{"y"=null;"z"=2}];"b"=1}"#,
        ),
        (
            "(indent=1)",
            "{\n \"b\": 1,\n \"a\": [\n  1,\n  {\n   \"z\": 2,\n   \"y\": null\n  }\n ]\n}",
        ),
        (
            "(indent='\t', separators=(' ,', ' : '))",
            "{\n\t\"b\" : 1 ,\n\t\"a\" : [\n\t\t1 ,\n\t\t{\n\t\t\t\"z\" : 2 ,\n\t\t\t\"y\" : null\n\t\t}\n\t]\n}",
        ),
    ] {
        assert_eq!(of(arguments, short.clone()), expected, "{arguments}");
    }
    assert_eq!(of("(indent=0)", json!([1, []])), "[\n1,\n[]\n]");
    assert_eq!(
        of("(ensure_ascii=true)", json!(["ü\u{7f}\u{1f600}a"])),
        r#"["\u00fc\u007f\ud83d\ude00a"]"#
    );
    let numbers = json!([
        1.0,
        0.5,
        1e15,
        1e16,
        1.5e300,
        1e-4,
        1e-5,
        -2.5e-7,
        u64::MAX,
        i64::MIN,
        true
    ]);
    assert_eq!(
        of("", numbers),
        "[1.0, 0.5, 1000000000000000.0, 1e+16, 1.5e+300, 0.0001, 1e-05, -2.5e-07, \
         18446744073709551615, -9223372036854775808, true]"
    );
    let long = crate::tokenizer::long_integer("-12345678901234567890123").unwrap();
    assert_eq!(
        of("", json!({"id": long})),
        r#"{"id": -12345678901234567890123}"#
    );
    let keys = "{{ {1: 'a', true: none} | tojson }}";
    let text = render(keys, &[]).unwrap();
    assert!(text.contains("\"1\": \"a\""), "{text}");
}

#[test]
fn an_argument_that_tojson_has_not_is_an_error_that_names_it() {
    for (arguments, named) in [
        ("allow_nan=false", "allow_nan"),
        ("idnent=2", "idnent"),
        ("true, ensure_ascii=true", "ensure_ascii"),
        ("1, 2, 3, 4, 5", "tojson"),
        ("separators=','", "separators"),
        ("indent=1.5", "indent"),
        ("indent=17", "indent"),
    ] {
        let source = format!("{{{{ [1] | tojson({arguments}) }}}}");
        let error = render(&source, &[]).unwrap_err().to_string();
        assert!(error.contains(named), "{arguments}: {error}");
    }
}

#[test]
fn limits_hold() {
    let failed = |source: &str| render(source, &[]).unwrap_err().to_string();
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    assert!(failed(endless).contains("steps"), "{}", failed(endless));
    let long = "{% for a in range(9999) %}{{ 'abcdefgh' * 1000 }}{% endfor %}";
    let message = failed(long);
    assert!(message.contains(&MAX_OUTPUT.to_string()), "{message}");
    let deep = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    assert!(failed(deep).contains("recursion"), "{}", failed(deep));
    for outside in [
        "{% include '/etc/passwd' %}",
        "{{ open('/etc/passwd') }}",
        "{{ strftime_now('%!') }}",
    ] {
        assert!(failed(outside).contains("failed"), "{}", failed(outside));
        assert_eq!(failed(outside).lines().count(), 1);
    }
    assert!(
        Template::new("{% if %}", "", "")
            .unwrap_err()
            .contains("cannot be read")
    );
    assert!(Template::new(&"x".repeat(2 << 20), "", "").is_err());
}
