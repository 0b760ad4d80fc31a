//! The distillation loss and its gradients for inputs in a JSON file, as JSON: for
//! `experiments/checks/distill_losses.py`.

use burn::module::Param;
use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_format::ModelConfig;
use retort_model::{Decoder, LossWeights, RandomInit, TeacherLogits};
use serde_json::{Value, json};

fn main() {
    let path = std::env::args()
        .nth(1)
        .expect("usage: distill_losses FILE.json");
    let text = std::fs::read_to_string(path).expect("the file");
    let case: Value = serde_json::from_str(&text).expect("JSON");
    let number = |key: &str| case[key].as_f64().expect(key) as f32;
    let list = |key: &str| -> Vec<f32> {
        let list = case[key].as_array().expect(key);
        list.iter().map(|x| x.as_f64().expect(key) as f32).collect()
    };
    let (v, theirs) = (
        number("vocabulary") as usize,
        number("teacher_vocabulary") as usize,
    );
    let (hidden, weights) = (list("hidden"), list("weights"));
    let (n, d) = (weights.len(), hidden.len() / weights.len());

    let device = Device::flex().autodiff();
    let config = json!({
        "hidden_size": d, "intermediate_size": d, "num_hidden_layers": 1, "num_attention_heads": 1,
        "vocab_size": v, "max_position_embeddings": n, "tie_word_embeddings": true,
    });
    let config: ModelConfig = serde_json::from_value(config).expect("a shape");
    let config = config.resolve().expect("a shape");
    let mut model = Decoder::build(&config, &mut RandomInit::new(&config, 0), &device);
    let put =
        |x: Vec<f32>, shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(x, shape), &device);
    model.embed_tokens.weight = Param::from_tensor(put(list("head"), [v, d]));

    let hidden = put(hidden, [n, d]).unsqueeze::<3>().require_grad();
    let ids: Vec<i32> = list("targets").into_iter().map(|id| id as i32).collect();
    let targets = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, n]), &device);
    let teacher = list("teacher");
    let teacher_logits = TeacherLogits::Dense {
        vocabulary: theirs,
        logits: Box::new(move |rows| teacher[rows.start * theirs..rows.end * theirs].to_vec()),
    };
    let loss_weights = LossWeights {
        temperature: number("temperature"),
        cross_entropy: number("cross_entropy"),
        forward_kl: number("forward_kl"),
        reverse_kl: number("reverse_kl"),
        jensen_shannon: number("jensen_shannon"),
        beta: number("beta"),
        total_variation: number("total_variation"),
        chunk: number("chunk") as usize,
    };
    let total = model
        .distillation(
            hidden.clone(),
            targets,
            put(weights, [1, n]),
            teacher_logits,
            loss_weights,
        )
        .total;
    let grads = total.backward();
    let values = |x: TensorData| x.try_into_vec::<f32>().expect("numbers");
    let head = model.embed_tokens.weight.val();
    let out = json!({
        "loss": total.into_scalar::<f32>(),
        "hidden": values(hidden.grad(&grads).expect("a gradient").into_data()),
        "head": values(head.grad(&grads).expect("a gradient").into_data()),
    });
    println!("{out}");
}
