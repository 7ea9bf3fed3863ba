//! A model written as a unit and read back is the same model, whatever stands in it: of every kind, and of every field. The printers
//! take the models apart without `..`, so that a field that is not printed does not compile.

mod kinds;
mod make;
mod service;
mod write;

use super::{hostile::Dice, language, minimal, shown};
use crate::unit::{Declared, Unit, UnitSet};

const ROUNDS: usize = 1000;

/// As a word of a list: in quotes, with escapes, and every percent sign doubled.
fn word(text: &str) -> String {
    let mut shown = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => shown.extend(['\\', c]),
            '%' => shown.push_str("%%"),
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            c if c.is_control() => shown.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => shown.push(c),
        }
    }
    shown.push('"');
    shown
}

/// Lines of one section.
struct Lines(String);

impl Lines {
    fn section(&mut self, name: &str) {
        self.0 += &format!("[{name}]\n");
    }

    #[allow(clippy::needless_pass_by_value)] // texts and numbers, as they come
    fn put(&mut self, key: &str, value: impl ToString) {
        self.0 += &format!("{key}={}\n", value.to_string());
    }

    fn each<T: ToString>(&mut self, key: &str, values: impl IntoIterator<Item = T>) {
        values.into_iter().for_each(|value| self.put(key, value));
    }
}

/// The file beside those that others name.
fn read(file: &str, text: &str) -> UnitSet {
    let other = minimal("", "");
    let all = [
        (file, text),
        ("n1", &other),
        ("n2", &other),
        ("app.pod", "[Pod]\n"),
        ("base.image", "[Image]\nImage=localhost/b\n"),
        ("lan0.network", "[Network]\nNetworkName=lan0\n"),
        ("lan1.network", "[Network]\nNetworkName=lan1\n"),
        ("lan2.network", "[Network]\nNetworkName=lan2\n"),
    ];
    let set = language(&all);
    assert_eq!(shown(&set), Vec::<String>::new(), "{text}");
    set
}

fn plain<T: Clone>(read: &Declared<T>) -> Declared<T> {
    Declared { origins: Vec::new(), ..read.clone() }
}

#[test]
fn containers_are_read_back_the_same() {
    let mut dice = Dice::new(0x2545_f491_4f6c_dd1d);
    for _ in 0..ROUNDS {
        let model = make::unit(&mut dice);
        let text = write::unit(&model);
        let read = read("web", &text).units.remove("web").unwrap();
        assert!(!read.origins.is_empty());
        assert_eq!(Unit { origins: Vec::new(), ..read }, model, "{text}");
    }
}

/// Every kind knows where its keys were set.
#[test]
fn the_other_kinds_are_read_back_the_same() {
    let mut dice = Dice::new(0x9e37_79b9_7f4a_7c15);
    for _ in 0..ROUNDS {
        let model = kinds::make_volume(&mut dice);
        let text = kinds::volume(&model);
        let set = read("x.volume", &text);
        assert_eq!(plain(&set.volumes["x-volume"]), model, "{text}");
        assert!(!set.volumes["x-volume"].origins.is_empty());

        let model = kinds::make_network(&mut dice);
        let text = kinds::network(&model);
        let set = read("x.network", &text);
        assert_eq!(plain(&set.networks["x-network"]), model, "{text}");
        assert!(!set.networks["x-network"].origins.is_empty());

        let model = kinds::make_image(&mut dice);
        let text = kinds::image(&model);
        let set = read("x.image", &text);
        assert_eq!(plain(&set.images["x-image"]), model, "{text}");
        assert!(!set.images["x-image"].origins.is_empty());

        let model = kinds::make_pod(&mut dice);
        let text = kinds::pod(&model);
        let set = read("x.pod", &text);
        assert_eq!(plain(&set.pods["x-pod"]), model, "{text}");
        assert!(!set.pods["x-pod"].origins.is_empty());

        let model = kinds::make_timer(&mut dice);
        let text = kinds::timer(&model);
        let set = read("x.timer", &text);
        assert_eq!(plain(&set.timers["x.timer"]), model, "{text}");
        assert!(set.timers["x.timer"].origins.iter().any(|origin| origin.key == "Unit"));

        let model = kinds::make_socket(&mut dice);
        let text = kinds::socket(&model);
        let set = read("x.socket", &text);
        assert_eq!(plain(&set.sockets["x.socket"]), model, "{text}");
        assert!(!set.sockets["x.socket"].origins.is_empty());
    }
}
