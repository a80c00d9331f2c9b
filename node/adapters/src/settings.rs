//! TOML settings files: read strictly, explained by themselves. An unknown field, a wrong type or a missing file is an error
//! that names file, line, field and the way out; [`commented`] writes a file in which every field carries its meaning.
//! Declare a file or section with [`crate::settings!`]; the doc comment of a field is its text in the file.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::{Path, PathBuf};

/// What [`crate::settings!`] implements.
pub trait Settings: Sized {
    /// The section as it stands in a file: every field optional, none unknown.
    type Raw: DeserializeOwned + Default;

    /// Fills in the defaults.
    ///
    /// # Errors
    /// The path of a field that has no default and was not given.
    fn from_raw(raw: Self::Raw) -> Result<Self, String>;

    /// Appends the section, with a comment before every field if `explain`; `path` is its name, empty for the file itself.
    fn describe(&self, path: &str, explain: bool, out: &mut String);
}

/// A settings file that cannot be used.
#[derive(Debug)]
pub struct SettingsError {
    /// The file, with line and column where they are known.
    pub place: String,
    /// What is wrong with it, naming field and value.
    pub problem: String,
    /// What to do about it.
    pub way_out: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  way out: {}", self.place, self.problem, self.way_out)
    }
}

impl std::error::Error for SettingsError {}

/// A field whose value has the right type and is wrong all the same.
#[derive(Debug)]
pub struct FieldError {
    /// Its path, such as `grpc.listen`.
    pub field: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub way_out: String,
}

impl FieldError {
    /// Names the field, its value, what is wrong and what to do.
    pub fn new(
        field: impl Into<String>,
        value: impl fmt::Display,
        problem: impl Into<String>,
        way_out: impl Into<String>,
    ) -> Self {
        Self { field: field.into(), value: value.to_string(), problem: problem.into(), way_out: way_out.into() }
    }

    /// The error with the file it is in.
    #[must_use]
    pub fn in_file(self, file: &Path) -> SettingsError {
        SettingsError {
            place: file.display().to_string(),
            problem: format!("`{} = {}`: {}", self.field, self.value, self.problem),
            way_out: self.way_out,
        }
    }
}

/// Reads a settings file.
///
/// # Errors
/// The file cannot be read, is no TOML, has an unknown field, a value of the wrong type, or lacks a field without default.
pub fn read<T: Settings>(file: &Path) -> Result<T, SettingsError> {
    let text = std::fs::read_to_string(file).map_err(|error| SettingsError {
        place: file.display().to_string(),
        problem: format!("cannot be read: {error}"),
        way_out: String::from(
            "check the path and the file's permissions; `anji init` writes a complete, commented file",
        ),
    })?;
    parse(file, &text)
}

/// Reads settings from text; `file` is only named in errors.
///
/// # Errors
/// As [`read`].
pub fn parse<T: Settings>(file: &Path, text: &str) -> Result<T, SettingsError> {
    let raw: T::Raw = toml::from_str(text).map_err(|error| {
        let (place, line) = match error.span() {
            Some(span) => {
                let before = text.get(..span.start).unwrap_or_default();
                let number = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().map_or(0, |it| it.chars().count()) + 1;
                let line = text.lines().nth(number - 1).unwrap_or_default().trim();
                (format!("{}:{number}:{column}", file.display()), format!(", in `{line}`"))
            }
            None => (file.display().to_string(), String::new()),
        };
        let way_out = if error.message().starts_with("unknown field") {
            "correct the name or remove the line; nothing that is not understood is ever ignored"
        } else {
            "correct the line; a file made by `anji init` explains every field"
        };
        SettingsError { place, problem: format!("{}{line}", error.message()), way_out: String::from(way_out) }
    })?;
    T::from_raw(raw).map_err(|field| SettingsError {
        place: file.display().to_string(),
        problem: format!("the field `{field}` is missing and has no default"),
        way_out: String::from("add it; a file made by `anji init` explains every field"),
    })
}

/// A complete file in which a comment explains every field.
#[must_use]
pub fn commented<T: Settings>(settings: &T, head: &str) -> String {
    let mut out: String = head.lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect();
    out.push('\n');
    settings.describe("", true, &mut out);
    out
}

/// A path in a settings file is relative to the folder of the file.
#[must_use]
pub fn resolve(file: &Path, path: &Path) -> PathBuf {
    file.parent().map_or_else(|| path.to_path_buf(), |folder| folder.join(path))
}

/// One `key = value` line with its comment; a value that is not set is written as a comment.
#[doc(hidden)]
pub fn describe_value<V: Serialize>(docs: &[&str], key: &str, value: &V, out: &mut String) {
    for doc in docs {
        out.push_str(format!("#{doc}").trim_end());
        out.push('\n');
    }
    let line = match toml::Value::try_from(value) {
        Ok(value) => format!("{key} = {value}\n"),
        Err(_) => format!("# {key} =\n"),
    };
    out.push_str(&line);
    if !docs.is_empty() {
        out.push('\n');
    }
}

/// The head of a section with its comment.
#[doc(hidden)]
pub fn describe_head(docs: &[&str], head: &str, out: &mut String) {
    for doc in docs {
        out.push_str(format!("#{doc}").trim_end());
        out.push('\n');
    }
    if docs.is_empty() {
        out.push('\n');
    }
    out.push_str(head);
    out.push('\n');
}

/// The path of a section below another.
#[doc(hidden)]
#[must_use]
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Declares a settings file or section: `values` (with `= default`, or required), then `sections`, then `lists` of sections.
/// Reading refuses unknown fields; the doc comments become the comments of the written file.
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $about:literal])*
        $vis:vis struct $name:ident {
            $( values { $( $(#[doc = $vdoc:literal])+ $value:ident : $vty:ty $(= $default:expr)? ),* $(,)? } )?
            $( sections { $( $(#[doc = $sdoc:literal])+ $section:ident : $sty:ty ),* $(,)? } )?
            $( lists { $( $(#[doc = $ldoc:literal])+ $list:ident : $lty:ty ),* $(,)? } )?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug)]
        $vis struct $name {
            $($( $(#[doc = $vdoc])+ $vis $value: $vty, )*)?
            $($( $(#[doc = $sdoc])+ $vis $section: $sty, )*)?
            $($( $(#[doc = $ldoc])+ $vis $list: Vec<$lty>, )*)?
        }

        const _: () = {
            #[derive(Default, serde::Deserialize)]
            #[serde(deny_unknown_fields)]
            $vis struct Raw {
                $($( $value: Option<$vty>, )*)?
                $($( $section: Option<<$sty as $crate::settings::Settings>::Raw>, )*)?
                $($( $list: Option<Vec<<$lty as $crate::settings::Settings>::Raw>>, )*)?
            }

            impl $crate::settings::Settings for $name {
                type Raw = Raw;

                fn from_raw(raw: Raw) -> Result<Self, String> {
                    Ok(Self {
                        $($( $value: {
                            #[allow(unused_mut, unused_assignments, reason = "set only where there is a default")]
                            let mut default: Option<$vty> = None;
                            $( default = Some($default); )?
                            raw.$value.or(default).ok_or_else(|| stringify!($value).to_owned())?
                        }, )*)?
                        $($( $section: <$sty as $crate::settings::Settings>::from_raw(raw.$section.unwrap_or_default())
                            .map_err(|field| $crate::settings::join(stringify!($section), &field))?, )*)?
                        $($( $list: raw.$list.unwrap_or_default().into_iter()
                            .map(|item| <$lty as $crate::settings::Settings>::from_raw(item)
                                .map_err(|field| $crate::settings::join(stringify!($list), &field)))
                            .collect::<Result<_, _>>()?, )*)?
                    })
                }

                fn describe(&self, path: &str, explain: bool, out: &mut String) {
                    let _ = (path, explain);
                    $($( $crate::settings::describe_value(
                        if explain { &[$($vdoc),+] } else { &[] }, stringify!($value), &self.$value, out); )*)?
                    $($( {
                        let inner = $crate::settings::join(path, stringify!($section));
                        $crate::settings::describe_head(if explain { &[$($sdoc),+] } else { &[] }, &format!("[{inner}]"), out);
                        self.$section.describe(&inner, explain, out);
                    } )*)?
                    $($( {
                        let inner = $crate::settings::join(path, stringify!($list));
                        // Only the first of several is explained.
                        let mut first = explain;
                        for item in &self.$list {
                            let docs: &[&str] = if first { &[$($ldoc),+] } else { &[] };
                            $crate::settings::describe_head(docs, &format!("[[{inner}]]"), out);
                            item.describe(&inner, first, out);
                            first = false;
                        }
                    } )*)?
                }
            }
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    settings! {
        /// A file.
        struct Sample {
            values {
                /// Who.
                name: String,
                /// How many.
                /// On two lines.
                count: u16 = 7,
                /// Maybe.
                path: Option<PathBuf> = None,
            }
            sections {
                /// The door.
                door: Door
            }
            lists {
                /// The others.
                peers: Peer
            }
        }
    }
    settings! {
        /// A section.
        struct Door { values {
            /// Where.
            listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 1)),
        } }
    }
    settings! {
        /// An element.
        struct Peer { values {
            /// Which.
            key: String,
        } }
    }

    fn error(text: &str) -> String {
        parse::<Sample>(Path::new("a.toml"), text).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_written_file_reads_back_and_explains_every_field() {
        let text = "name = \"x\"\ncount = 9\n[door]\nlisten = \"127.0.0.1:5\"\n[[peers]]\nkey = \"k\"\n[[peers]]\nkey = \"l\"\n";
        let sample: Sample = parse(Path::new("a.toml"), text).expect("good");
        let written = commented(&sample, "head\n\nof the file");
        let again: Sample = parse(Path::new("b.toml"), &written).expect("reads back");
        assert_eq!((again.count, again.peers.len(), again.door.listen.port()), (9, 2, 5));
        for part in [
            "# head\n#\n# of the file\n",
            "# How many.\n# On two lines.\ncount = 9\n",
            "# path =\n",
            "# The others.\n[[peers]]",
        ] {
            assert!(written.contains(part), "{part:?} in\n{written}");
        }
    }

    #[test]
    fn errors_name_file_line_field_and_the_way_out() {
        let rows = [
            ("name = 'x'\ncuont = 3\n", "a.toml:2:1: unknown field `cuont`, expected one of `name`, `count`"),
            (
                "name = 'x'\ncount = 'three'\n",
                "a.toml:2:9: invalid type: string \"three\", expected u16, in `count = 'three'`",
            ),
            ("name = 'x'\ncount = 70000\n", "a.toml:2:9: invalid value: integer `70000`, expected u16"),
            ("count = 3\n", "the field `name` is missing"),
            ("name = 'x'\n[door]\nlisten = 'here'\n", "a.toml:3:10: invalid socket address syntax"),
            ("name = 'x'\n[door]\nlsten = 'here'\n", "a.toml:3:1: unknown field `lsten`, expected `listen`"),
            ("name = 'x'\n[[peers]]\n", "the field `peers.key` is missing"),
            ("name = \n", "a.toml:1:"),
            ("name = 'x'\nname = 'y'\n", "duplicate key"),
        ];
        for (text, expected) in rows {
            let shown = error(text);
            assert!(shown.contains(expected), "{expected:?} not in {shown:?}");
            assert!(shown.contains("way out: "), "{shown}");
        }
        let missing = read::<Sample>(Path::new("/nowhere/a.toml")).expect_err("missing").to_string();
        assert!(missing.contains("/nowhere/a.toml: cannot be read"), "{missing}");
    }
}
