//! The forms in which results are printed.

use crate::report;
use crate::workloads::columns::COLUMNS;
use crate::workloads::{Line, table};
use ropewalk::{Error, Result};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Tables for people, one for each adapter
    Table,
    /// One table in Markdown
    Md,
    /// Comma-separated values, a line for each result
    Csv,
    /// One list of objects
    Json,
    /// One object a line, each as soon as it is there: what --json prints
    Jsonl,
}

impl Form {
    /// The form that --format and --json ask for.
    pub fn of(format: Option<Form>, json: bool) -> Result<Self> {
        match (format, json) {
            (None, true) | (Some(Form::Jsonl), _) => Ok(Form::Jsonl),
            (None, false) => Ok(Form::Table),
            (Some(form), false) => Ok(form),
            (Some(_), true) => {
                Err(Error::input("--json", "prints one object a line, --format something else", "give one of the two"))
            }
        }
    }

    /// Prints what is printed at the end, of all adapters.
    pub fn all(self, lines: &[Line]) -> Result<()> {
        match self {
            Form::Md => report::say(&table::markdown(lines)),
            Form::Csv => report::say(csv(lines)?.trim_end()),
            Form::Json => report::json(&lines),
            Form::Table | Form::Jsonl => {}
        }
        Ok(())
    }
}

/// A header and a line for each result.
fn csv(lines: &[Line]) -> Result<String> {
    let bad = |e: &dyn std::fmt::Display| Error::input("--format csv", format!("cannot be written: {e}"), "report it");
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS.map(|(name, _)| name)).map_err(|e| bad(&e))?;
    for line in lines {
        writer.write_record(COLUMNS.map(|(_, of)| of(line))).map_err(|e| bad(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| bad(&e))?;
    String::from_utf8(bytes).map_err(|e| bad(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::compare;
    use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
    use serde_json::Value;

    fn lines() -> [Line; 2] {
        let line = |workload: &str, adapter: &str| Line::made(workload, adapter, 12.5, 11.0);
        [line("p1", "Vulkan \"one\", a|b"), line("d2-f16", "Gl two\nlines")]
    }

    #[test]
    fn csv_is_read_by_its_library() {
        let text = csv(&lines()).expect("text");
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header: Vec<String> = reader.headers().expect("a header").iter().map(String::from).collect();
        let rows: Vec<csv::StringRecord> =
            reader.records().collect::<std::result::Result<_, _>>().expect("rows of one width");
        let cell = |row: usize, name: &str| {
            let column = header.iter().position(|h| h == name).expect(name);
            rows[row].get(column).expect("a cell").to_string()
        };
        assert_eq!((rows.len(), header.len()), (2, COLUMNS.len()));
        assert_eq!((cell(0, "adapter"), cell(1, "adapter")), ("Vulkan \"one\", a|b".into(), "Gl two\nlines".into()));
        assert_eq!((cell(1, "workload"), cell(1, "median_ms").parse()), ("d2-f16".into(), Ok(12.5)));
        assert_eq!(cell(0, "compare_median"), "");
        // whatever JSON has at the top, and is no list or object, has a column of its name
        let json = serde_json::to_value(&lines()[0]).expect("JSON");
        let nested = |v: &Value| v.is_object() || v.is_null();
        let missing: Vec<&String> = json
            .as_object()
            .expect("an object")
            .iter()
            .filter(|(name, v)| !nested(v) && !header.contains(name))
            .map(|(name, _)| name)
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn a_table_in_markdown_is_read_by_a_parser_of_markdown() {
        let text = table::markdown(&lines());
        let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::TableCell) => cell.clear(),
                Event::Text(part) | Event::Code(part) => cell += &part,
                Event::End(TagEnd::TableCell) => row.push(cell.trim().to_string()),
                Event::End(TagEnd::TableRow | TagEnd::TableHead) => rows.push(std::mem::take(&mut row)),
                Event::Start(Tag::Paragraph) => panic!("outside of the table: {text}"),
                _ => {}
            }
        }
        let [head, one, two] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((head[0].as_str(), one[0].as_str(), two[0].as_str()), ("workload", "p1", "d2-f16"));
        let of = |row: &[String], name: &str| row[head.iter().position(|h| h == name).expect(name)].clone();
        assert_eq!((of(one, "median"), of(one, "best")), ("12.5 ms".into(), "11.0 ms".into()));
        assert_eq!((of(one, "adapter"), of(two, "adapter")), ("Vulkan \"one\", a|b".into(), "Gl two lines".into()));
    }

    /// What --format json prints is a record that a later run compares with.
    #[test]
    fn a_list_is_a_record() {
        let text = serde_json::to_string_pretty(&lines()).expect("JSON");
        let earlier = compare::parse("FILE", &text).expect("a record");
        assert_eq!(earlier.len(), 2);
        assert_eq!((earlier[1].workload.as_str(), earlier[1].median_ms), ("d2-f16", 12.5));
    }

    #[test]
    fn one_of_two_forms_is_asked_for() {
        assert_eq!(Form::of(None, true), Ok(Form::Jsonl));
        assert_eq!(Form::of(Some(Form::Jsonl), true), Ok(Form::Jsonl));
        assert_eq!((Form::of(None, false), Form::of(Some(Form::Csv), false)), (Ok(Form::Table), Ok(Form::Csv)));
        assert!(Form::of(Some(Form::Md), true).is_err());
    }
}
