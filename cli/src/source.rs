//! Where a spec comes from: a spec file, or a model's configuration.

use crate::files::{self, Kind};
use ropewalk::{ConfigOptions, Error, Result, Spec, Stack};
use std::path::PathBuf;

/// The options that name a spec.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Source {
    /// A spec file: `ropewalk::Spec` as JSON
    #[arg(long, value_name = "FILE", group = "source")]
    spec: Option<PathBuf>,
    /// A Hugging Face model's config.json
    #[arg(long, value_name = "FILE", group = "source")]
    config: Option<PathBuf>,
    /// Which configuration within the file, such as vision_config [default: the file's own attention, else its text model's]
    #[arg(long, value_name = "KEYS", requires = "config")]
    part: Option<String>,
    /// The layer of the model, from 0, where layers differ
    #[arg(long, value_name = "N", requires = "config")]
    layer: Option<u32>,
    /// Which attention of the model [default: the encoder's where there is one]
    #[arg(long, value_enum, requires = "config")]
    stack: Option<StackName>,
    /// q and k already carry the model's q/k norm
    #[arg(long, requires = "config")]
    normalized: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum StackName {
    Encoder,
    Decoder,
    Cross,
}

impl Source {
    /// Whether a model's configuration is given: its spec adapts to the tensors, a spec file does not.
    pub fn is_config(&self) -> bool {
        self.config.is_some()
    }

    /// The spec. `seq_len` is the longest sequence in tokens, for length extensions that depend on it.
    pub fn read(&self, seq_len: Option<u32>) -> Result<Spec> {
        match (&self.spec, &self.config) {
            (Some(path), _) => spec(&path.display().to_string(), &files::text(path, Kind::Spec)?),
            (None, Some(path)) => {
                let mut options = ConfigOptions::default();
                options.part = self.part.clone();
                options.layer = self.layer;
                options.seq_len = seq_len;
                options.stack = self.stack.map(|stack| match stack {
                    StackName::Encoder => Stack::Encoder,
                    StackName::Decoder => Stack::Decoder,
                    StackName::Cross => Stack::Cross,
                });
                options.normalized = self.normalized;
                config(&path.display().to_string(), &files::text(path, Kind::Config)?, &options)
            }
            (None, None) => Err(Error::input("--spec", "is missing", "give --spec FILE or --config FILE")),
        }
    }
}

/// The spec of a spec file's text.
pub fn spec(name: &str, text: &str) -> Result<Spec> {
    let spec: Spec = files::json(name, text)?;
    spec.validate().map(|()| spec)
}

/// The spec of a model's configuration.
pub fn config(name: &str, text: &str, options: &ConfigOptions) -> Result<Spec> {
    files::json::<serde_json::Value>(name, &ropewalk::finite(text))?;
    Spec::from_hf_config_with(text, options)
}
