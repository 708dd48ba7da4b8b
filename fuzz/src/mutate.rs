//! Changes to files: raw bytes, JSON by its structure, safetensors by their header, texts by their words.

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// Random numbers of a case.
pub struct Draw(ChaCha8Rng);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Draw(ChaCha8Rng::seed_from_u64(seed))
    }
    /// Below `n`, 0 for none.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.0.random_range(0..n) }
    }
    /// Once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        of.choose(&mut self.0).expect("something to choose from")
    }
    /// From -1 to 1.
    pub fn unit(&mut self) -> f32 {
        self.0.random_range(-1.0..=1.0)
    }
    /// A number of 32 bits at some edge.
    pub fn u32(&mut self) -> u32 {
        let power = 1u32 << self.below(32);
        match self.below(8) {
            0 => 0,
            1 => 1,
            2 => u32::MAX - self.below(2) as u32,
            3 => power,
            4 => power - 1,
            5 => power.wrapping_add(1),
            6 => self.below(9) as u32,
            _ => self.word() as u32,
        }
    }
    /// A number of 64 bits at some edge, or none at all.
    pub fn f64(&mut self) -> f64 {
        const EDGES: [f64; 18] = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.0,
            -0.0,
            5e-324,
            -5e-324,
            f64::MIN_POSITIVE,
            f64::MAX,
            f64::MIN,
            f32::MIN_POSITIVE as f64,
            f32::MAX as f64,
            1e-30,
            1e30,
            -1.0,
            1.0,
            2.0,
            65_536.0,
        ];
        match self.below(5) {
            0 => f64::from_bits(self.word()),
            1 => self.u32() as f64,
            _ => *self.pick(&EDGES),
        }
    }
}

/// Flips, cuts, doubles, moves, overwrites; `other` lends pieces.
pub fn bytes(draw: &mut Draw, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=draw.below(4) {
        let at = draw.below(bytes.len() + 1);
        let piece = |draw: &mut Draw, of: &[u8]| {
            let from = draw.below(of.len() + 1);
            of[from..(from + draw.below(64)).min(of.len())].to_vec()
        };
        match draw.below(7) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << draw.below(8),
            2 if at < bytes.len() => {
                bytes[at] = *draw.pick(&[0, 0xff, 0x80, b'"', b'{', b'}', b'[', b']', b'0', b'-', b'\n'])
            }
            3 => bytes.truncate(at),
            4 => {
                let piece = piece(draw, other);
                bytes.splice(at..at, piece);
            }
            5 => {
                let piece = piece(draw, bytes);
                bytes.splice(at..at, piece);
            }
            _ => drop(bytes.drain(at..(at + draw.below(16)).min(bytes.len()))),
        }
    }
}

/// JSON whose numbers and strings are their text, so that it can be what JSON is not.
#[derive(Debug, Clone)]
pub enum Json {
    /// Written as it stands.
    Raw(Vec<u8>),
    Array(Vec<Json>),
    Object(Vec<(Vec<u8>, Json)>),
}

impl Json {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Value>(bytes).ok().map(|value| Self::from(&value))
    }
    pub fn write(&self, to: &mut Vec<u8>) {
        let list = |to: &mut Vec<u8>, n: usize| {
            if n > 0 {
                to.push(b',')
            }
        };
        match self {
            Json::Raw(text) => to.extend(text),
            Json::Array(items) => {
                to.push(b'[');
                items.iter().enumerate().for_each(|(n, item)| {
                    list(to, n);
                    item.write(to);
                });
                to.push(b']');
            }
            Json::Object(entries) => {
                to.push(b'{');
                entries.iter().enumerate().for_each(|(n, (key, value))| {
                    list(to, n);
                    to.extend(key);
                    to.push(b':');
                    value.write(to);
                });
                to.push(b'}');
            }
        }
    }
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }
    /// Every value, this one first.
    fn count(&self) -> usize {
        1 + match self {
            Json::Raw(_) => 0,
            Json::Array(items) => items.iter().map(Json::count).sum(),
            Json::Object(entries) => entries.iter().map(|(_, value)| value.count()).sum(),
        }
    }
    fn nth(&mut self, mut n: usize) -> &mut Json {
        if n == 0 {
            return self;
        }
        n -= 1;
        let inner: Box<dyn Iterator<Item = &mut Json>> = match self {
            Json::Raw(_) => Box::new(std::iter::empty()),
            Json::Array(items) => Box::new(items.iter_mut()),
            Json::Object(entries) => Box::new(entries.iter_mut().map(|(_, value)| value)),
        };
        for value in inner {
            let count = value.count();
            if n < count {
                return value.nth(n);
            }
            n -= count;
        }
        unreachable!("fewer values than were counted")
    }
    /// A value from somewhere within.
    fn some(&mut self, draw: &mut Draw) -> &mut Json {
        let n = draw.below(self.count());
        self.nth(n)
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        match value {
            Value::Array(items) => Json::Array(items.iter().map(Json::from).collect()),
            Value::Object(entries) => {
                let text = |key: &String| Value::from(key.as_str()).to_string().into_bytes();
                Json::Object(entries.iter().map(|(key, value)| (text(key), Json::from(value))).collect())
            }
            leaf => Json::Raw(leaf.to_string().into_bytes()),
        }
    }
}

/// What may stand where JSON has a value, and often may not.
fn leaf(draw: &mut Draw) -> Json {
    const LEAVES: [&str; 30] = [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1",
        "1",
        "2",
        "0.5",
        "1.0",
        "1e0",
        "-2147483648",
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "1e308",
        "1e309",
        "-1e309",
        "1e-400",
        "NaN",
        "Infinity",
        "\"\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "[]",
        "{}",
        "",
    ];
    match draw.below(8) {
        0 => Json::Raw(draw.u32().to_string().into_bytes()),
        1 => Json::Raw(format!("{:e}", draw.f64()).into_bytes()),
        2 => Json::Raw((draw.word() as i64).to_string().into_bytes()),
        3 => {
            let text = draw.pick(&["a", "\\n", "é", "\u{1f980}", "\\\\", "0"]).repeat(1 << draw.below(13));
            Json::Raw(format!("\"{text}\"").into_bytes())
        }
        4 if draw.once_in(4) => Json::Raw(b"\"\xff\xfe\"".to_vec()),
        _ => Json::Raw(draw.pick(&LEAVES).as_bytes().to_vec()),
    }
}

/// Changes values and keys; `other` lends some.
pub fn json(draw: &mut Draw, value: &mut Json, other: &Json) {
    for _ in 0..=draw.below(4).min(draw.below(4)) {
        let target = value.some(draw);
        match (draw.below(12), &mut *target) {
            (0, Json::Object(entries)) if !entries.is_empty() => drop(entries.remove(draw.below(entries.len()))),
            (1, Json::Array(items)) if !items.is_empty() => drop(items.remove(draw.below(items.len()))),
            (2, Json::Object(entries)) if !entries.is_empty() => {
                let copy = entries[draw.below(entries.len())].clone();
                entries.insert(draw.below(entries.len() + 1), copy);
            }
            (3, Json::Object(entries)) => {
                // keys of another file
                let mut other = other.clone();
                if let Json::Object(found) = other.some(draw)
                    && !found.is_empty()
                {
                    entries.push(found.swap_remove(draw.below(found.len())));
                }
            }
            (4, Json::Object(entries)) if !entries.is_empty() => {
                let (a, b) = (draw.below(entries.len()), draw.below(entries.len()));
                let value = entries[a].1.clone();
                entries[a].1 = std::mem::replace(&mut entries[b].1, value);
            }
            (5, Json::Object(entries)) if !entries.is_empty() => {
                let at = draw.below(entries.len());
                if let Json::Raw(text) = leaf(draw) {
                    entries[at].0 = text;
                }
            }
            (6, Json::Array(items)) if !items.is_empty() => {
                let item = items[draw.below(items.len())].clone();
                let n = 1 << draw.below(9);
                items.extend(std::iter::repeat_n(item, n));
            }
            (7, _) => *target = other.clone().some(draw).clone(),
            (8, _) if draw.once_in(4) => {
                let deep = 1 << draw.below(12);
                let (open, shut) = *draw.pick(&[("[", "]"), ("{\"a\":", "}"), ("[", "")]);
                *target = Json::Raw(format!("{}1{}", open.repeat(deep), shut.repeat(deep)).into_bytes());
            }
            // numbers mostly stay numbers, so that the change is met behind the parser
            (_, Json::Raw(text)) if text.first().is_some_and(|c| c.is_ascii_digit() || *c == b'-') => {
                *text = match draw.below(4) {
                    0 => match leaf(draw) {
                        Json::Raw(text) => text,
                        other => other.bytes(),
                    },
                    1 => format!("{:?}", draw.f64()).into_bytes(),
                    _ => draw.u32().to_string().into_bytes(),
                }
            }
            _ => *target = leaf(draw),
        }
    }
}

/// Changes the header of a safetensors file: lengths, offsets, types, shapes, metadata, and JSON within the metadata.
pub fn tensors(draw: &mut Draw, file: &mut Vec<u8>, other: &[u8]) {
    let header = |file: &[u8]| -> Option<(usize, Json)> {
        let len = u64::from_le_bytes(*file.first_chunk()?) as usize;
        Some((8 + len, Json::parse(file.get(8..8usize.checked_add(len)?)?)?))
    };
    let (Some((end, mut own)), Some((_, mut lent))) = (header(file), header(other)) else {
        return bytes(draw, file, other);
    };
    match draw.below(8) {
        0 => {
            let len = match draw.below(3) {
                0 => draw.word(),
                1 => draw.u32() as u64,
                _ => (end as u64 - 8).wrapping_add_signed(draw.below(17) as i64 - 8),
            };
            file[..8].copy_from_slice(&len.to_le_bytes());
            return;
        }
        1 => {
            // the tensors' own bytes: other numbers, and other lengths
            let mut data = file.split_off(end);
            bytes(draw, &mut data, other);
            file.extend(data);
            return;
        }
        2..=4 => within_metadata(draw, &mut own, &mut lent),
        5 => {
            let names: Vec<Vec<u8>> = match &lent {
                Json::Object(entries) => entries.iter().map(|(name, _)| name.clone()).collect(),
                _ => vec![],
            };
            if let Json::Object(entries) = &mut own
                && !entries.is_empty()
                && !names.is_empty()
            {
                // a tensor by another name
                let at = draw.below(entries.len());
                entries[at].0 = draw.pick(&names).clone();
            }
        }
        6 => shape(draw, &mut own),
        _ => json(draw, &mut own, &lent),
    }
    let text = own.bytes();
    let data = file.split_off(end);
    file.clear();
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text);
    file.extend(data);
}

/// The same bytes as another shape or type, so that the header stays true.
fn shape(draw: &mut Draw, header: &mut Json) {
    let Json::Object(entries) = header else { return };
    if entries.is_empty() {
        return;
    }
    let at = draw.below(entries.len());
    let Json::Object(info) = &mut entries[at].1 else { return };
    for (key, value) in info {
        match (key.as_slice(), value) {
            (b"\"shape\"", Json::Array(sides)) => match draw.below(5) {
                0 => sides.reverse(),
                1 => sides.insert(draw.below(sides.len() + 1), Json::Raw(b"1".to_vec())),
                2 if !sides.is_empty() => drop(sides.remove(draw.below(sides.len()))),
                3 if sides.len() > 1 => {
                    let last = sides.len() - 1;
                    sides.swap(0, last);
                }
                _ => {}
            },
            (b"\"dtype\"", dtype) if draw.once_in(3) => {
                let alike: &[&str] = match dtype {
                    Json::Raw(name) if name == b"\"F32\"" => &["\"I32\"", "\"U32\""],
                    Json::Raw(name) if name == b"\"F64\"" || name == b"\"I64\"" => &["\"I64\"", "\"F64\"", "\"U64\""],
                    Json::Raw(name) if name == b"\"BOOL\"" => &["\"U8\"", "\"I8\"", "\"F8_E4M3\""],
                    _ => &["\"F16\"", "\"BF16\"", "\"I16\""],
                };
                *dtype = Json::Raw(draw.pick(alike).as_bytes().to_vec());
            }
            _ => {}
        }
    }
}

/// The values of the metadata are strings, and some of them JSON.
fn within_metadata(draw: &mut Draw, own: &mut Json, lent: &mut Json) {
    let metadata = |header: &mut Json| -> Vec<(Vec<u8>, Vec<u8>)> {
        let Json::Object(entries) = header else { return vec![] };
        let found = entries.iter().find(|(name, _)| name == b"\"__metadata__\"");
        let Some((_, Json::Object(values))) = found else { return vec![] };
        let text = |(key, value): &(Vec<u8>, Json)| match value {
            Json::Raw(text) => Some((key.clone(), serde_json::from_slice::<String>(text).ok()?.into_bytes())),
            _ => None,
        };
        values.iter().filter_map(text).collect()
    };
    let lent = metadata(lent);
    let mut values = metadata(own);
    if values.is_empty() {
        return;
    }
    let at = draw.below(values.len());
    let (key, text) = &mut values[at];
    let other = lent.iter().find(|(k, _)| k == key).map_or(&b"{}"[..], |(_, text)| text);
    match (Json::parse(text), Json::parse(other)) {
        (Some(mut value), Some(other)) if !draw.once_in(16) => {
            json(draw, &mut value, &other);
            *text = value.bytes();
        }
        _ if draw.once_in(2) => *text = other.to_vec(),
        _ => bytes(draw, text, other),
    }
    let quoted = |text: &[u8]| Json::Raw(Value::from(String::from_utf8_lossy(text)).to_string().into_bytes());
    let values = values.iter().map(|(key, text)| (key.clone(), quoted(text))).collect();
    if let Json::Object(entries) = own
        && let Some((_, found)) = entries.iter_mut().find(|(name, _)| name == b"\"__metadata__\"")
    {
        *found = Json::Object(values);
    }
}

/// Changes the words of a text; `words` and `other` lend some.
pub fn words(draw: &mut Draw, text: &str, other: &str, words: &[&str]) -> String {
    let mut own = split(text);
    let lent = split(other);
    for _ in 0..=draw.below(4).min(draw.below(4)) {
        let at = draw.below(own.len());
        let word = |draw: &mut Draw| match draw.below(6) {
            0 => draw.u32().to_string(),
            1 => format!("{:?}", draw.f64()),
            2 if !lent.is_empty() => draw.pick(&lent).to_string(),
            _ => draw.pick(words).to_string(),
        };
        match draw.below(8) {
            0 if at < own.len() => drop(own.remove(at)),
            1 if at < own.len() => own.insert(draw.below(own.len()), own[at].clone()),
            2 if at < own.len() => {
                let to = draw.below(own.len());
                own.swap(at, to);
            }
            3 => {
                let from = draw.below(lent.len());
                let piece = lent[from..(from + draw.below(24)).min(lent.len())].to_vec();
                own.splice(at..at, piece);
            }
            4 => {
                let from = draw.below(own.len());
                let piece = own[from..(from + draw.below(24)).min(own.len())].to_vec();
                own.splice(at..at, piece);
            }
            5 if draw.once_in(8) => {
                let word = word(draw).repeat(1 << draw.below(12));
                own.insert(at, word);
            }
            6 | 7 if at < own.len() => own[at] = word(draw),
            _ => {
                let word = word(draw);
                own.insert(at, word);
            }
        }
    }
    own.concat()
}

/// Words, numbers and signs.
fn split(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let class = |c: char| if c.is_alphanumeric() || c == '_' { 1 } else { 0 };
    let mut last = 0;
    for c in text.chars() {
        match all.last_mut() {
            Some(word) if class(c) == 1 && last == 1 => word.push(c),
            _ => all.push(c.to_string()),
        }
        last = class(c);
    }
    all
}
