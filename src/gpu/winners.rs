//! Winners on disk: one file for each adapter and driver, in the user's cache folder, renamed into place when it is whole.
//!
//! Reading one can neither fail nor harm: schema, version, adapter, driver and size are compared, what is wrong is ignored with its reason,
//! and what is left still has to be a candidate of the call.

use crate::error::{Error, Result};
use crate::gpu::folder;
use crate::plan::tuning::bucket::{Bucket, Tunings};
use crate::plan::tuning::tuning::Tuning;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

/// The version of the file's form.
const SCHEMA: u32 = 1;

/// A file is at most this large: thousands of winners.
const MAX_BYTES: u64 = 1 << 20;

/// What won a bucket, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Winner {
    /// The family and its numbers.
    pub tuning: Tuning,
    /// What was timed, such as `p1`.
    pub workload: String,
    /// Its least time, milliseconds.
    pub ms: f64,
    /// That of what a plan took without it, in the same alternation.
    pub default_ms: f64,
    /// When, as RFC 3339.
    pub date: String,
}

impl Winner {
    /// Of a measurement.
    pub fn new(tuning: Tuning, workload: &str, ms: f64, default_ms: f64, date: String) -> Self {
        Winner { tuning, workload: workload.into(), ms, default_ms, date }
    }
}

/// Winners that were measured on one adapter with one driver.
///
/// [`TuningCache::load`] never fails and never gives what does not suit: a file that is damaged, or of another adapter, driver or version, is
/// ignored, with a warning that says which and why; a winner that does not suit a call is passed over when it is planned.
///
/// ```
/// use ropewalk::{Gpu, Limits, TuningCache};
/// # let Ok(gpu) = Gpu::new() else { return Ok::<(), ropewalk::Error>(()) };
/// let (cache, warnings) = TuningCache::load(gpu.info());
/// warnings.iter().for_each(|warning| eprintln!("{warning}"));
/// let mut limits = *gpu.limits();
/// limits.tunings = cache.tunings();       // plans made with these limits take winners into account
/// # Ok::<(), ropewalk::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TuningCache {
    adapter: String,
    driver: String,
    winners: BTreeMap<String, Winner>,
    /// What was inserted and removed here since it was last saved, which is what is saved.
    changes: BTreeMap<String, Option<Winner>>,
}

/// The same winners of the same adapter and driver, whether they are saved or not.
impl PartialEq for TuningCache {
    fn eq(&self, other: &Self) -> bool {
        self.adapter == other.adapter && self.driver == other.driver && self.winners == other.winners
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Stored<W> {
    schema: u32,
    ropewalk: String,
    adapter: String,
    driver: String,
    winners: BTreeMap<String, W>,
}

impl TuningCache {
    /// No winners yet.
    pub fn new(info: &wgpu::AdapterInfo) -> Self {
        let [adapter, driver] = identity(info);
        TuningCache { adapter, driver, winners: BTreeMap::new(), changes: BTreeMap::new() }
    }

    /// Where winners of an adapter are kept: in `$ROPEWALK_CACHE`, else in `ropewalk` in the user's cache folder. None where the
    /// system has no such folder.
    pub fn path(info: &wgpu::AdapterInfo) -> Option<PathBuf> {
        Some(folder::path()?.join("tuning").join(folder::name_of(info) + ".json"))
    }

    /// The winners of an adapter and its driver, and what was ignored. No file is no warning.
    pub fn load(info: &wgpu::AdapterInfo) -> (Self, Vec<String>) {
        match Self::path(info) {
            Some(path) => Self::load_from(&path, info),
            None => (Self::new(info), Vec::new()),
        }
    }

    /// See [`TuningCache::load`].
    pub fn load_from(path: &Path, info: &wgpu::AdapterInfo) -> (Self, Vec<String>) {
        let cache = Self::new(info);
        let (winners, warnings) = cache.winners_of(path);
        (TuningCache { winners, ..cache }, warnings)
    }

    /// The winners in a file, and what was ignored.
    fn winners_of(&self, path: &Path) -> (BTreeMap<String, Winner>, Vec<String>) {
        let (mut winners, mut warnings) = (BTreeMap::new(), Vec::new());
        let bytes = match folder::read(path, MAX_BYTES) {
            Ok(None) => return (winners, warnings),
            Ok(Some(bytes)) => Ok(bytes),
            Err(why) => Err(why),
        };
        let mut ignored = |what: &str, why: String| {
            let help = "`ropewalk tune` writes it anew";
            warnings.push(format!("tuning: {}: {what}ignored: it {why}; {help}", path.display()));
        };
        match bytes.and_then(|bytes| self.read(&bytes)) {
            Err(why) => ignored("", why),
            Ok(stored) => {
                for (bucket, value) in stored {
                    match serde_json::from_value::<Winner>(value) {
                        Ok(winner) => drop(winners.insert(bucket, winner)),
                        Err(e) => ignored(&format!("the winner of \"{bucket}\" is "), format!("cannot be read: {e}")),
                    }
                }
            }
        }
        (winners, warnings)
    }

    /// The winners of a file's text, not yet read; why it is ignored.
    fn read(&self, bytes: &[u8]) -> std::result::Result<BTreeMap<String, serde_json::Value>, String> {
        if bytes.is_empty() {
            return Err("is empty".into());
        }
        // the version first: another one may have another form
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(|e| format!("is no file of winners: {e}"))?;
        if version.schema != SCHEMA {
            return Err(format!("has schema {}, this version reads {SCHEMA}", version.schema));
        }
        let stored: Stored<serde_json::Value> =
            serde_json::from_slice(bytes).map_err(|e| format!("is no file of winners: {e}"))?;
        for (what, found, here) in [
            ("ropewalk", stored.ropewalk.as_str(), env!("CARGO_PKG_VERSION")),
            ("adapter", &stored.adapter, &self.adapter),
            ("driver", &stored.driver, &self.driver),
        ] {
            if found != here {
                return Err(format!("is of {what} {found:?}, here is {here:?}"));
            }
        }
        Ok(stored.winners)
    }

    /// A winner of a bucket, in place of an earlier one.
    pub fn insert(&mut self, bucket: &Bucket, winner: Winner) {
        self.winners.insert(bucket.to_string(), winner.clone());
        self.changes.insert(bucket.to_string(), Some(winner));
    }
    /// A bucket without a winner: what plans take without one is best.
    pub fn remove(&mut self, bucket: &Bucket) {
        self.winners.remove(&bucket.to_string());
        self.changes.insert(bucket.to_string(), None);
    }
    /// The winners by the names of their buckets.
    pub fn winners(&self) -> &BTreeMap<String, Winner> {
        &self.winners
    }
    /// For [`Limits::tunings`](crate::Limits).
    pub fn tunings(&self) -> Tunings {
        Tunings::new(self.winners.iter().map(|(bucket, winner)| (bucket.clone(), winner.tuning)))
    }

    /// Writes what was inserted and removed here into the file of an adapter, whole or not at all; says where it is. What other programs
    /// have written there since it was loaded stays, and a change is written once: a second save does not undo theirs.
    ///
    /// # Errors
    /// [`Error::Input`] where the folder cannot be written or there is none.
    pub fn save(&mut self, info: &wgpu::AdapterInfo) -> Result<PathBuf> {
        let path = Self::path(info).ok_or_else(no_folder)?;
        self.save_to(&path)?;
        Ok(path)
    }

    /// See [`TuningCache::save`].
    ///
    /// # Errors
    /// As [`TuningCache::save`].
    pub fn save_to(&mut self, path: &Path) -> Result<()> {
        folder::alone(path, || self.merge_into(path))?;
        self.changes.clear();
        Ok(())
    }

    fn merge_into(&self, path: &Path) -> Result<()> {
        // what of it is ignored was said when it was loaded
        let (mut winners, _) = self.winners_of(path);
        for (bucket, winner) in &self.changes {
            match winner {
                Some(winner) => winners.insert(bucket.clone(), winner.clone()),
                None => winners.remove(bucket),
            };
        }
        let stored = Stored {
            schema: SCHEMA,
            ropewalk: env!("CARGO_PKG_VERSION").into(),
            adapter: self.adapter.clone(),
            driver: self.driver.clone(),
            winners,
        };
        let text = serde_json::to_string_pretty(&stored).map_err(|e| Error::device("writing winners", e))?;
        if text.len() as u64 > MAX_BYTES {
            let help = "clear it: `ropewalk tune --clear`";
            return Err(Error::input(path.display().to_string(), format!("would hold {} bytes", text.len()), help));
        }
        folder::write(path, (text + "\n").as_bytes())
    }

    /// Removes the file of an adapter; whether there was one.
    ///
    /// # Errors
    /// [`Error::Input`] where it cannot be removed.
    pub fn clear(info: &wgpu::AdapterInfo) -> Result<bool> {
        match Self::path(info) {
            Some(path) if path.exists() => folder::alone(&path, || folder::remove(&path)),
            _ => Ok(false),
        }
    }
}

fn no_folder() -> Error {
    let help = format!("set {} to a folder that can be written", folder::VARIABLE);
    Error::input("the cache folder", "is not known on this system", help)
}

/// Backend and name of the adapter; driver and its version.
fn identity(info: &wgpu::AdapterInfo) -> [String; 2] {
    let driver = format!("{} {}", info.driver, info.driver_info);
    [format!("{:?} {}", info.backend, info.name), driver.trim().to_string()]
}
