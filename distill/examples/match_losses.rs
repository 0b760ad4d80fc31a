//! The loss of states against a teacher's, through a projection or none, and its gradients for
//! inputs in a JSON file, as JSON: for `experiments/checks/distill_losses.py`.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use retort_distill::matching::relative_error;
use retort_format::ModelConfig;
use retort_model::{Decoder, RandomInit};
use serde_json::{Value, json};

fn main() {
    let path = std::env::args()
        .nth(1)
        .expect("usage: match_losses FILE.json");
    let text = std::fs::read_to_string(path).expect("the file");
    let case: Value = serde_json::from_str(&text).expect("JSON");
    let list = |key: &str| -> Vec<f32> {
        let list = case[key].as_array().expect(key);
        list.iter().map(|x| x.as_f64().expect(key) as f32).collect()
    };
    let (x, y, projection, weights) = (list("x"), list("y"), list("projection"), list("weights"));
    let n = weights.len();
    let (d, e) = (x.len() / n, y.len() / n);

    let device = Device::flex().autodiff();
    let config = json!({
        "hidden_size": d, "intermediate_size": d, "num_hidden_layers": 1, "num_attention_heads": 1,
        "vocab_size": 2, "max_position_embeddings": n,
    });
    let config: ModelConfig = serde_json::from_value(config).expect("a shape");
    let config = config.resolve().expect("a shape");
    let mut model = Decoder::build(&config, &mut RandomInit::new(&config, 0), &device);
    let put =
        |x: Vec<f32>, shape: [usize; 3]| Tensor::<3>::from_data(TensorData::new(x, shape), &device);
    let x = put(x, [1, n, d]).require_grad();
    let mapped = match projection.is_empty() {
        true => x.clone(),
        false => {
            let matrix = put(projection, [1, d, e]).squeeze_dim::<2>(0);
            model.projections = vec![Param::from_tensor(matrix)];
            model.project(0, x.clone())
        }
    };
    let y = put(y, [1, n, e]).inner();
    let weights = put(weights, [1, 1, n]).squeeze_dim::<2>(0);
    let loss = relative_error(mapped, y, weights);
    let grads = loss.backward();
    let values = |x: TensorData| x.try_into_vec::<f32>().expect("numbers");
    let projection = model.projections.first().map(|m| {
        let gradient = m.val().grad(&grads).expect("a gradient");
        values(gradient.into_data())
    });
    let out = json!({
        "loss": loss.into_scalar::<f32>(),
        "x": values(x.grad(&grads).expect("a gradient").into_data()),
        "projection": projection,
    });
    println!("{out}");
}
