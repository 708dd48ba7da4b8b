//! The folder in which measurements and compiled pipelines are kept, and how its files are read and written: whole or not at all.

use crate::error::{Error, Result};
use std::path::Path;
use std::path::PathBuf;

/// Overrides the folder.
pub(crate) const VARIABLE: &str = "ROPEWALK_CACHE";

/// `$ROPEWALK_CACHE`, else `ropewalk` in the user's cache folder; none where the system has no such folder.
pub(crate) fn path() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()) {
        return Some(folder.into());
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        use etcetera::BaseStrategy;
        Some(etcetera::base_strategy::choose_native_strategy().ok()?.cache_dir().join("ropewalk"))
    }
    #[cfg(target_arch = "wasm32")]
    None
}

/// A name for files about an adapter and its driver: what is legible of both, then a hash of them (FNV-1a).
pub(crate) fn name_of(info: &wgpu::AdapterInfo) -> String {
    let whole = crate::gpu::adapter::describe(info);
    let hash = whole.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ b as u64).wrapping_mul(0x0100_0000_01b3));
    let legible: String = whole.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
    format!("{}-{hash:016x}", legible.trim_matches('-').to_lowercase())
}

/// The bytes of a regular file of at most `most` bytes; none where there is no file.
pub(crate) fn read(path: &Path, most: u64) -> std::result::Result<Option<Vec<u8>>, String> {
    use std::io::Read;
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("cannot be read: {e}")),
    };
    if !found.is_file() {
        return Err("is not a regular file".into());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| format!("cannot be read: {e}"))?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(|e| format!("cannot be read: {e}"))?;
    match bytes.len() as u64 > most {
        true => Err(format!("is larger than {most} bytes")),
        false => Ok(Some(bytes)),
    }
}

fn unwritten(path: &Path, e: &dyn std::fmt::Display) -> Error {
    let help = format!("set {VARIABLE} to a folder that can be written; is the disk full?");
    Error::input(path.display().to_string(), format!("cannot be written: {e}"), help)
}

/// Does the work on a file while no other thread or process does work on it, so that what one reads, changes and writes is not lost to
/// another. Others wait at a file beside it, which stays: whoever waits at it waits at the same one. A file system without locks is taken as it is.
pub(crate) fn alone<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    #[cfg(not(target_arch = "wasm32"))]
    {
        let failed = |e: std::io::Error| unwritten(path, &e);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let file = std::fs::File::options().create(true).write(true).truncate(false).open(&name).map_err(failed)?;
        // an open file that cannot be locked is on a file system without locks, whose errors differ: ENOLCK of NFS, ENOSYS, EOPNOTSUPP
        while file.lock().is_err_and(|e| e.kind() == std::io::ErrorKind::Interrupted) {}
        work() // the lock ends with `file`
    }
    #[cfg(target_arch = "wasm32")]
    {
        let _ = path;
        work()
    }
}

/// Writes a file under another name beside the target, then renames it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| unwritten(path, e);
    #[cfg(not(target_arch = "wasm32"))]
    {
        use std::io::Write;
        let folder = path.parent().ok_or_else(|| failed(&"it has no folder"))?;
        std::fs::create_dir_all(folder).map_err(|e| failed(&e))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| failed(&e))?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|e| failed(&e))?;
        file.persist(path).map_err(|e| failed(&e.error))?;
        Ok(())
    }
    #[cfg(target_arch = "wasm32")]
    {
        let _ = bytes;
        Err(failed(&"there are no files"))
    }
}

/// Removes a file; whether there was one.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => {
            let help = "remove it yourself";
            Err(Error::input(path.display().to_string(), format!("cannot be removed: {e}"), help))
        }
    }
}
