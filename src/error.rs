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
    /// The device refused a call, was lost, or ran out of memory.
    #[error("device, {context}: {message}")]
    Device {
        /// What was being done.
        context: String,
        /// The device's own words.
        message: String,
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
    /// A failure of the device.
    pub fn device(context: impl Into<String>, message: impl ToString) -> Self {
        Error::Device { context: context.into(), message: message.to_string() }
    }
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
