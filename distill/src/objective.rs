//! The distillation objective: a teacher's distribution mixed with the text's.

use burn::tensor::Tensor;
use retort_model::Decoder;
use retort_train::{BatchTensors, Loss, Objective};

use crate::config::TeacherConfig;
use crate::loss::forward_kl;
use crate::teacher::Teacher;

/// `kl_weight · T² KL(teacher ‖ student) + (1 − kl_weight) · cross entropy`.
pub struct Distillation {
    teacher: Teacher,
    config: TeacherConfig,
}

impl Distillation {
    /// An objective from a loaded teacher.
    pub fn new(teacher: Teacher, config: TeacherConfig) -> Self {
        Self { teacher, config }
    }
}

impl Objective for Distillation {
    fn loss(&self, model: &Decoder, hidden: Tensor<3>, batch: &BatchTensors) -> Loss {
        let teacher = self.teacher.logits(batch);
        let student = model.logits(hidden);
        // Rows past the shared ids are padding in whichever table is larger.
        let shared = teacher.dims()[2].min(student.dims()[2]);
        let kl = forward_kl(
            student.clone().narrow(2, 0, shared),
            teacher.narrow(2, 0, shared),
            batch.weights.clone(),
            self.config.temperature,
        );
        let ce = batch.cross_entropy_of(student);
        let w = self.config.kl_weight;
        Loss {
            total: kl.clone() * w + ce.clone() * (1.0 - w),
            parts: vec![("kl", kl), ("cross_entropy", ce)],
        }
    }
}
