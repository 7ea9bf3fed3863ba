//! `%` in values: the specifiers of systemd.unit(5) that mean the same on every machine.

use super::{
    UnitName,
    text::{Fault, Text},
};

/// The value with its specifiers replaced. Places stay those of the file. What is no specifier stays as it is, as with systemd, and
/// is reported in `strange`.
pub(super) fn expand(value: &Text, unit: &UnitName, strange: &mut Vec<Fault>) -> Result<Text, Fault> {
    if !value.text.contains('%') {
        return Ok(value.clone());
    }
    let mut expanded = Text::new(std::rc::Rc::clone(&value.file));
    let mut done = 0;
    while let Some(at) = value.text[done..].find('%').map(|i| done + i) {
        let letter = value.text[at + 1..].chars().next();
        let range = at..at + 1 + letter.map_or(0, char::len_utf8);
        value.copy_into(&mut expanded, done..at);
        match letter.map(|letter| meaning(letter, unit)) {
            Some(Meaning::Is(text)) => expanded.push_replaced(&text, value, &range),
            Some(Meaning::Template) => {
                let text = format!(
                    "{} belongs to templates, which are not available in this version",
                    &value.text[range.clone()]
                );
                return Err(Fault::new(range, text));
            }
            Some(Meaning::Machine) => {
                let text = format!(
                    "{} differs from machine to machine and is not available in this version",
                    &value.text[range.clone()]
                );
                return Err(Fault::new(range, text));
            }
            Some(Meaning::Unknown) => {
                let shown = &value.text[range.clone()];
                strange.push(Fault::new(
                    range.clone(),
                    format!("{shown} is not a specifier and stays as it is; write %{shown} to say so"),
                ));
                value.copy_into(&mut expanded, range.clone());
            }
            None => value.copy_into(&mut expanded, range.clone()),
        }
        done = range.end;
    }
    value.copy_into(&mut expanded, done..value.text.len());
    Ok(expanded)
}

enum Meaning {
    Is(String),
    Template,
    Machine,
    Unknown,
}

fn meaning(letter: char, unit: &UnitName) -> Meaning {
    let name = unit.as_str();
    let text = match letter {
        '%' => "%",
        'n' => return Meaning::Is(format!("{name}.service")),
        // Of a unit that is no template's instance, prefix and name are the same.
        'N' | 'p' | 'P' => name,
        'j' | 'J' => name.rsplit('-').next().unwrap_or(name),
        't' => "/run",
        'S' => "/var/lib",
        'C' => "/var/cache",
        'L' => "/var/log",
        'E' => "/etc",
        'T' => "/tmp",
        'V' => "/var/tmp",
        'h' => "/root",
        'u' | 'g' => "root",
        'U' | 'G' => "0",
        'i' | 'I' => return Meaning::Template,
        'a' | 'A' | 'b' | 'B' | 'H' | 'l' | 'm' | 'M' | 'o' | 'q' | 'v' | 'w' | 'W' | 's' | 'd' | 'D' | 'f' | 'y'
        | 'Y' | 'c' | 'r' | 'R' => return Meaning::Machine,
        _ => return Meaning::Unknown,
    };
    Meaning::Is(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{path::Path, rc::Rc};

    fn value(text: &str) -> Text {
        let mut value = Text::new(Rc::from(Path::new("u")));
        value.push(text, 1, 10);
        value
    }

    #[test]
    fn those_of_every_machine_are_replaced() {
        let unit = UnitName::parse("web-front").unwrap();
        let expand = |text: &str| expand(&value(text), &unit, &mut Vec::new()).map(|t| t.text);
        assert_eq!(
            expand("%n %N %p %j 100%% %t/x %S"),
            Ok("web-front.service web-front web-front front 100% /run/x /var/lib".into())
        );
        assert_eq!(expand("plain"), Ok("plain".into()));
        assert_eq!(expand("a %i").unwrap_err().range, 2..4);
        assert_eq!(expand("50%"), Ok("50%".into()));
        assert!(expand("%H").unwrap_err().text.contains("machine"));
    }

    #[test]
    fn what_is_no_specifier_stays_and_is_reported() {
        let mut strange = Vec::new();
        let expanded = expand(&value("date +%Z"), &UnitName::parse("a").unwrap(), &mut strange).unwrap();
        assert_eq!(expanded.text, "date +%Z");
        assert_eq!((strange.len(), strange[0].range.clone()), (1, 6..8));
    }

    #[test]
    fn places_stay_those_of_the_file() {
        let expanded =
            expand(&value("%N:/data:bad"), &UnitName::parse("a-long-name").unwrap(), &mut Vec::new()).unwrap();
        assert_eq!(expanded.text, "a-long-name:/data:bad");
        assert_eq!(expanded.place(&(18..21)).column, 10 + 9);
        assert_eq!(expanded.place(&(0..11)).column, 10);
    }
}
