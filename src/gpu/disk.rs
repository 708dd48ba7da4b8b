//! Compiled pipelines on disk, by wgpu's pipeline cache: one file for each adapter and driver.

use crate::error::Result;
use crate::gpu::folder;
use serde::Deserialize;
use serde::Serialize;
use std::path::Path;
use std::path::PathBuf;

const SCHEMA: u32 = 1;

/// A file is at most this large.
const MAX_BYTES: u64 = 256 << 20;

/// What `PipelineCache::get_data` gave to an earlier process on the same adapter, driver and version; made by [`load`] alone.
#[derive(Debug)]
pub(crate) struct Saved(Vec<u8>);

impl Saved {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The first line of a file; the data stand behind it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    schema: u32,
    ropewalk: String,
    /// wgpu's.
    key: String,
    adapter: String,
    bytes: usize,
    crc32: u32,
}

impl Head {
    fn new(key: &str, info: &wgpu::AdapterInfo, data: &[u8]) -> Self {
        Head {
            schema: SCHEMA,
            ropewalk: env!("CARGO_PKG_VERSION").into(),
            key: key.into(),
            adapter: crate::gpu::adapter::describe(info),
            bytes: data.len(),
            crc32: crc32fast::hash(data),
        }
    }
}

/// Where the pipelines of an adapter are kept; none where its backend has no such cache or the system no folder.
pub(crate) fn path(info: &wgpu::AdapterInfo) -> Option<PathBuf> {
    wgpu::util::pipeline_cache_key(info)?;
    Some(folder::path()?.join("pipelines").join(folder::name_of(info) + ".bin"))
}

/// What was saved, unless there is nothing or it is not to be trusted; then a warning says why.
pub(crate) fn load(path: &Path, info: &wgpu::AdapterInfo) -> (Option<Saved>, Option<String>) {
    let Some(key) = wgpu::util::pipeline_cache_key(info) else { return (None, None) };
    let read = folder::read(path, MAX_BYTES).and_then(|bytes| bytes.map(|b| checked(b, &key, info)).transpose());
    match read {
        Ok(saved) => (saved, None),
        Err(why) => {
            let help = "it is written anew";
            (None, Some(format!("pipelines: {}: ignored: it {why}; {help}", path.display())))
        }
    }
}

/// The data of a file's bytes, or why they are not to be trusted: for the fuzzer, which has no device.
#[doc(hidden)]
pub fn saved_pipelines(bytes: Vec<u8>, info: &wgpu::AdapterInfo) -> std::result::Result<Vec<u8>, String> {
    let key = wgpu::util::pipeline_cache_key(info).ok_or("has no such files")?;
    checked(bytes, &key, info).map(|saved| saved.0)
}

/// The bytes of a file of these data, likewise; none where the backend has no such cache.
#[doc(hidden)]
pub fn pipelines_file(data: &[u8], info: &wgpu::AdapterInfo) -> Option<Vec<u8>> {
    let key = wgpu::util::pipeline_cache_key(info)?;
    file(&Head::new(&key, info, data), data).ok()
}

fn file(head: &Head, data: &[u8]) -> serde_json::Result<Vec<u8>> {
    Ok([&serde_json::to_vec(head)?[..], b"\n", data].concat())
}

fn checked(bytes: Vec<u8>, key: &str, info: &wgpu::AdapterInfo) -> std::result::Result<Saved, String> {
    let end = bytes.iter().take(4096).position(|b| *b == b'\n').ok_or("has no first line")?;
    let (line, rest) = bytes.split_at(end);
    let data = rest.get(1..).unwrap_or_default();
    let head: Head = serde_json::from_slice(line).map_err(|e| format!("is no file of pipelines: {e}"))?;
    match head == Head::new(key, info, data) {
        true => Ok(Saved(data.to_vec())),
        false if head.schema != SCHEMA => Err(format!("has schema {}, this version reads {SCHEMA}", head.schema)),
        false if head.bytes != data.len() => Err(format!("has {} bytes of data of {}", data.len(), head.bytes)),
        false if head.crc32 != crc32fast::hash(data) => Err("is damaged: its checksum is another".into()),
        false => Err("is of another adapter, driver or version".into()),
    }
}

/// Writes the cache's data, whole or not at all; nothing where the driver gives none.
pub(crate) fn save(path: &Path, info: &wgpu::AdapterInfo, cache: &wgpu::PipelineCache) -> Result<()> {
    let (Some(data), Some(key)) = (cache.get_data(), wgpu::util::pipeline_cache_key(info)) else { return Ok(()) };
    let bytes =
        file(&Head::new(&key, info, &data), &data).map_err(|e| crate::error::Error::device("saving pipelines", e))?;
    folder::write(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> wgpu::AdapterInfo {
        let mut info = wgpu::AdapterInfo::new(wgpu::DeviceType::Cpu, wgpu::Backend::Vulkan);
        (info.name, info.driver, info.vendor, info.device) = ("a card".into(), "a driver".into(), 1, 2);
        info
    }

    #[test]
    fn a_file_that_is_not_what_was_saved_here_is_refused_with_its_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipelines.bin");
        let key = wgpu::util::pipeline_cache_key(&info()).expect("Vulkan has keys");
        let data: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
        let of = |change: &dyn Fn(&mut Head)| {
            let mut head = Head::new(&key, &info(), &data);
            change(&mut head);
            file(&head, &data).expect("JSON")
        };
        let good = of(&|_| ());
        let load = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            self::load(&path, &info())
        };
        let (saved, warning) = load(&good);
        assert!(saved.is_some_and(|s| s.bytes() == data) && warning.is_none());
        let mut flipped = good.clone();
        if let Some(last) = flipped.last_mut() {
            *last ^= 1;
        }
        let long = [&good[..], b"more"].concat();
        for (bytes, why) in [
            (&b""[..], "has no first line"),
            (b"nonsense", "has no first line"),
            (b"nonsense\nmore", "is no file of pipelines"),
            (&good[..good.len() - 1], "has 999 bytes of data of 1000"),
            (&long, "has 1004 bytes of data of 1000"),
            (&flipped, "is damaged"),
            (&of(&|h| h.schema = 2), "has schema 2, this version reads 1"),
            (&of(&|h| h.key.push('0')), "another adapter"),
            (&of(&|h| h.adapter.push('x')), "another adapter"),
            (&of(&|h| h.ropewalk = "0.0.1".into()), "another adapter, driver or version"),
        ] {
            let (saved, warning) = load(bytes);
            let warning = warning.unwrap_or_default();
            assert!(saved.is_none() && warning.contains(why) && warning.contains("pipelines.bin"), "{why}: {warning}");
        }
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(self::load(&path, &info()), (None, None)));
        let (saved, warning) = self::load(folder.path(), &info());
        assert!(saved.is_none() && warning.is_some_and(|w| w.contains("is not a regular file")));
    }
}
