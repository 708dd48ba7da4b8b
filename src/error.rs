//! One error type: it names the caller's field, says what was wrong there, and what to do.

/// Everything that can go wrong before work is encoded. After `bind` nothing fails.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The [`Spec`](crate::Spec) contradicts itself or asks for what does not exist.
    #[error("spec.{field}: {problem}; {help}")]
    Spec {
        /// The field of the spec, as it is spelled in Rust and in a spec file.
        field: String,
        /// What was found there.
        problem: String,
        /// What to do about it.
        help: String,
    },
    /// A model's configuration file lacks something, contradicts itself, or asks for what is not supported.
    #[error("config {field}: {problem}; {help}")]
    Config {
        /// The key of the configuration, with that of the dictionary around it (`rope_scaling.factor`).
        field: String,
        /// What was found there.
        problem: String,
        /// What to do about it.
        help: String,
    },
    /// An input tensor or a step value does not fit the spec.
    #[error("input {field}: {problem}; {help}")]
    Input {
        /// The tensor or step value, by its published name.
        field: String,
        /// What was found there.
        problem: String,
        /// What to do about it.
        help: String,
    },
    /// The device's limits do not allow the plan.
    #[error("limit {field}: {problem}; {help}")]
    Limit {
        /// The limit, as WebGPU names it.
        field: String,
        /// What was wanted and what there is.
        problem: String,
        /// What to do about it.
        help: String,
    },
    /// There is no adapter of the wanted kind.
    #[error("no adapter: {problem}; {help}")]
    NoAdapter {
        /// What was looked for and found.
        problem: String,
        /// What to do about it.
        help: String,
    },
    /// The device refused a call.
    #[error("device, {context}: {message}")]
    Device {
        /// What was being done.
        context: String,
        /// The device's own words.
        message: String,
    },
    /// The device is lost: destroyed, or given up by its driver. Nothing that was made on it works again.
    #[error("device lost, {context}: {reason}; open a new one, and make pipelines and buffers anew on it")]
    DeviceLost {
        /// What was being done.
        context: String,
        /// Why, as far as it is known.
        reason: String,
    },
    /// There is no memory for what was wanted, on the device or the host. The device works on.
    #[error("out of memory, {context}: {message}; call for less at a time, or free what is no longer used")]
    OutOfMemory {
        /// What was being done.
        context: String,
        /// The device's own words, or what was wanted.
        message: String,
    },
    /// The device was not done in the time that it was given (`Gpu::set_timeout`). It works on.
    #[error("time out, {context}: not done after {after:?}; allow more time, or call for less at a time")]
    Timeout {
        /// What was being done.
        context: String,
        /// How long it was waited for.
        after: std::time::Duration,
    },
}

impl Error {
    /// An error of the spec.
    pub fn spec(field: impl Into<String>, problem: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Spec { field: field.into(), problem: problem.into(), help: help.into() }
    }
    /// An error of a model's configuration file.
    pub fn config(field: impl Into<String>, problem: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Config { field: field.into(), problem: problem.into(), help: help.into() }
    }
    /// An error of an input.
    pub fn input(field: impl Into<String>, problem: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Input { field: field.into(), problem: problem.into(), help: help.into() }
    }
    /// A limit of the device.
    pub fn limit(field: impl Into<String>, problem: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Limit { field: field.into(), problem: problem.into(), help: help.into() }
    }
    /// A lost device; `None` where its reason is not known here.
    pub fn device_lost(context: impl Into<String>, reason: Option<&str>) -> Self {
        let reason = reason.unwrap_or("its lost callback was told why").into();
        Error::DeviceLost { context: context.into(), reason }
    }
    /// Memory that is not there.
    pub fn out_of_memory(context: impl Into<String>, message: impl ToString) -> Self {
        Error::OutOfMemory { context: context.into(), message: message.to_string() }
    }
    /// An error that wgpu reported.
    #[cfg(feature = "wgpu")]
    pub(crate) fn of_wgpu(context: impl Into<String>, error: wgpu::Error) -> Self {
        match error {
            wgpu::Error::OutOfMemory { .. } => Self::out_of_memory(context, error),
            _ => Self::device(context, error),
        }
    }
    /// A failure of the device.
    pub fn device(context: impl Into<String>, message: impl ToString) -> Self {
        Error::Device { context: context.into(), message: message.to_string() }
    }
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_from_other_failures() {
        let (source, description) = (|| Box::new(std::fmt::Error), String::from("why"));
        let memory = Error::of_wgpu("allocating", wgpu::Error::OutOfMemory { source: source() });
        assert!(matches!(&memory, Error::OutOfMemory { context, .. } if context == "allocating"), "{memory}");
        let other = Error::of_wgpu("binding", wgpu::Error::Validation { source: source(), description });
        assert!(matches!(&other, Error::Device { message, .. } if message.contains("why")), "{other}");
    }
}
