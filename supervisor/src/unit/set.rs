//! All units together: templates made into instances, links between units resolved, unknown ones and cycles refused, and nothing
//! else with them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    Origin, Problem, Severity, UnitName, UnitSet,
    build::{self, CONTAINER, Claim, Draft, NETWORK, Target, What},
    claims,
    connect::connect,
    cycle::{self, Cycle},
    judge,
    kind::Kind,
    machine::Machine,
    options,
    sheet::Sheet,
    source::{self, Content, LeftOver, Source, Sources, whole},
    specifier::Scope,
    suits,
    syntax::{self, Document},
};

/// Reads every unit file of the folders. A file in a later folder replaces those of the same name; a link to /dev/null masks
/// them; drop-ins of all folders apply. A folder that does not exist is empty. `asked` are instances of templates that no file names.
pub fn load(dirs: &[&Path], asked: &BTreeSet<UnitName>) -> UnitSet {
    let mut problems = Vec::new();
    let options = options::read(dirs, &mut problems);
    let mut sources = source::find(dirs, &mut problems);
    for name in asked {
        let stem = name.as_str();
        if !sources.units.iter().any(|unit| unit.kind == Kind::Container && unit.stem == stem) {
            let instance = sources.instance(Kind::Container, stem, &mut problems);
            sources.units.extend(instance);
        }
    }
    UnitSet { options, ..assemble(sources, problems, &Machine::here(), true) }
}

/// More instances than this are a template that names itself under ever new names.
const MAX_INSTANCES: usize = 1000;

/// Units by the names of their services, and which file makes which.
#[derive(Default)]
pub(super) struct Drafts {
    /// Those with mistakes too: what is wrong between units is told of them as well, all in one run.
    pub(super) all: BTreeMap<UnitName, Draft>,
    /// Those whose name another file's unit has. That is a mistake, and need not be their only one.
    pub(super) twins: Vec<(UnitName, Draft)>,
    pub(super) files: HashMap<(Kind, String), UnitName>,
    /// All there are, masked and unreadable ones too.
    pub(super) names: BTreeSet<UnitName>,
    pub(super) read: Vec<Read>,
}

/// A unit's file, the unit, unless it is a template that nobody names, and the drop-ins that apply.
pub(super) struct Read {
    pub(super) path: PathBuf,
    pub(super) name: Option<UnitName>,
    pub(super) drop_ins: Vec<PathBuf>,
}

struct Assembly<'a> {
    sources: Sources,
    machine: &'a Machine,
    strict: bool,
    /// What units mean, not only what is wrong with them.
    keep: bool,
    drafts: Drafts,
    set: UnitSet,
    /// What is wrong with a drop-in of many, or with a template, is said once.
    shared: HashSet<Problem>,
    /// Drop-ins of many units and templates of many instances, read once.
    parsed: RefCell<HashMap<PathBuf, Rc<Document>>>,
}

/// `strict`: what this version does not honour is a mistake.
pub(super) fn assemble(sources: Sources, problems: Vec<Problem>, machine: &Machine, strict: bool) -> UnitSet {
    let (drafts, mut set) = check(sources, problems, machine, strict, true);
    connect(drafts, &mut set);
    set
}

/// Only the mistakes: what a unit means is let go as soon as it is read.
pub(super) fn lint(dirs: &[&Path], machine: &Machine) -> (Drafts, UnitSet) {
    let mut problems = Vec::new();
    options::read(dirs, &mut problems);
    let sources = source::find(dirs, &mut problems);
    check(sources, problems, machine, true, false)
}

fn check(
    mut sources: Sources,
    problems: Vec<Problem>,
    machine: &Machine,
    strict: bool,
    keep: bool,
) -> (Drafts, UnitSet) {
    let mut queue: VecDeque<Source> = std::mem::take(&mut sources.units).into();
    let set = UnitSet { problems, ..UnitSet::default() };
    let mut all = Assembly {
        sources,
        machine,
        strict,
        keep,
        drafts: Drafts::default(),
        set,
        shared: HashSet::new(),
        parsed: RefCell::default(),
    };
    let mut instances = 0;
    let mut known: HashSet<(Kind, String)> = queue.iter().map(|s| (s.kind, s.stem.clone())).collect();
    queue.extend(all.default_instances().into_iter().filter(|s| known.insert((s.kind, s.stem.clone()))));
    while let Some(source) = queue.pop_front() {
        for (kind, stem) in all.add(&source) {
            if instances < MAX_INSTANCES && known.insert((kind, stem.clone())) {
                let instance = all.sources.instance(kind, &stem, &mut all.set.problems);
                instances += usize::from(instance.is_some());
                queue.extend(instance);
            }
        }
    }
    all.unused_templates();
    all.left_over_drop_ins();
    let Assembly { mut drafts, mut set, .. } = all;
    judge::resolve(&mut drafts);
    judge::drop_unknown(&mut drafts, &mut set);
    if strict {
        suits::refuse(&mut drafts, &mut set);
    }
    claims::refuse_doubles(&mut drafts, &mut set);
    refuse_circles(&mut drafts, &mut set);
    set.problems.sort_by(|a, b| (&a.path, a.place, &a.text).cmp(&(&b.path, b.place, &b.text)));
    // Instances of one template say the same of its lines.
    set.problems.dedup();
    (drafts, set)
}

fn refuse_circles(drafts: &mut Drafts, set: &mut UnitSet) {
    for Cycle { members, problem } in cycle::find(&drafts.all, |draft| !draft.broken) {
        for name in &members {
            drafts.all.get_mut(name).into_iter().for_each(|draft| draft.broken = true);
        }
        set.problems.push(problem.clone());
        set.broken.extend(members.iter().cloned());
        set.circles.push((members, problem));
    }
    // Circles that there would be without the other mistakes of their units. They keep nobody else from starting.
    for Cycle { mut members, problem } in cycle::find(&drafts.all, |_| true) {
        if set.circles.iter().all(|(told, _)| told.is_disjoint(&members)) {
            members.retain(|name| set.broken.contains(name));
            set.problems.push(problem.clone());
            set.circles.push((members, problem));
        }
    }
}

impl Assembly<'_> {
    /// Reads one unit; returns the instances of templates that it names.
    fn add(&mut self, source: &Source) -> Vec<(Kind, String)> {
        let file = (source.kind, source.stem.clone());
        let node = source.kind.node(&source.stem);
        let Ok(name) = UnitName::parse(&node) else { return Vec::new() };
        match source.content {
            Content::Masked => {
                self.drafts.name(file, &name, source);
                self.set.masked.insert(name);
                Vec::new()
            }
            Content::Unreadable => {
                self.drafts.name(file, &name, source);
                self.set.broken.insert(name);
                Vec::new()
            }
            Content::Text(_) => {
                let (name, mut draft, found) = self.draft(source);
                draft.broken = found.iter().any(Problem::is_error);
                let is_instance = source.stem.contains('@');
                for problem in found {
                    if (problem.path == source.path && !is_instance) || self.shared.insert(problem.clone()) {
                        self.set.problems.push(problem);
                    }
                }
                if self.drafts.names.contains(&name) {
                    let text = format!("another file makes the service {name} too; rename one, or write ServiceName=");
                    self.set.problems.push(whole(&source.path, Severity::Error, text));
                    draft.broken = true;
                    self.drafts.read.push(Read::of(source, None));
                    self.drafts.twins.push((name, draft));
                    return Vec::new();
                }
                let named = named_instances(&draft);
                self.drafts.name(file, &name, source);
                if draft.broken {
                    self.set.broken.insert(name.clone());
                }
                self.drafts.all.insert(name, draft);
                named
            }
        }
    }

    fn draft(&self, source: &Source) -> (UnitName, Draft, Vec<Problem>) {
        let mut documents = Vec::with_capacity(1 + source.drop_ins.len());
        if let Content::Text(text) = &source.content {
            let is_shared = source.stem.contains('@');
            documents.push(if is_shared {
                self.parsed(&source.path, text)
            } else {
                syntax::parse(&source.path, text).into()
            });
        }
        documents.extend(source.drop_ins.iter().map(|(path, text)| self.parsed(path, text)));
        let (name, of_name) = service_name(source, &documents);
        let path = source.path.to_string_lossy().into_owned();
        let scope = Scope { kind: source.kind, node: name.clone(), machine: self.machine, path };
        let mut sheet = Sheet::new(scope, &documents, self.strict);
        let mut draft = build::draft(&source.path, &source.stem, &mut sheet);
        if !self.keep {
            draft.what = What::Checked(source.path.clone());
        } else if let Some(origins) = draft.what.origins() {
            *origins = sheet.origins();
        }
        let mut problems = sheet.into_problems();
        problems.extend(of_name);
        (name, draft, problems)
    }

    fn parsed(&self, path: &Path, text: &[u8]) -> Rc<Document> {
        let mut all = self.parsed.borrow_mut();
        Rc::clone(all.entry(path.to_path_buf()).or_insert_with(|| syntax::parse(path, text).into()))
    }

    /// Those that templates ask for in `[Install]`.
    fn default_instances(&mut self) -> Vec<Source> {
        let mut found = Vec::new();
        for template in &self.sources.templates {
            let sample = Source { stem: format!("{}instance", template.stem), ..template.clone() };
            if let (_, Draft { default_instance: Some(instance), .. }, _) = self.draft(&sample) {
                let stem = format!("{}{instance}", template.stem);
                found.extend(self.sources.instance(template.kind, &stem, &mut self.set.problems));
            }
        }
        found
    }

    /// What nobody names is read all the same, for its mistakes.
    fn unused_templates(&mut self) {
        for template in &self.sources.templates {
            let used = |(kind, stem): &(Kind, String)| *kind == template.kind && stem.starts_with(&template.stem);
            if self.drafts.files.keys().any(used) {
                continue;
            }
            let file = format!("{}.{}", template.stem, template.kind.suffix());
            let sample = Source { stem: format!("{}instance", template.stem), ..template.clone() };
            if matches!(template.content, Content::Text(_)) {
                // A value that the instance's name is part of is right or wrong with the name: what is said of any is told.
                let other = Source { stem: format!("{}1", template.stem), ..template.clone() };
                let (found, others) = (self.draft(&sample).2, self.draft(&other).2);
                let same: HashSet<_> = others.iter().map(|one| (&one.path, one.place, &one.text)).collect();
                let both = found.into_iter().filter(|found| same.contains(&(&found.path, found.place, &found.text)));
                self.set.problems.extend(both);
            }
            self.drafts.read.push(Read::of(template, None));
            self.set.templates.insert(file);
        }
    }

    /// Drop-ins of nobody are read for what each file says by itself: its syntax, its sections, its keys and their values.
    fn left_over_drop_ins(&mut self) {
        let units = self.drafts.files.keys().map(|(kind, stem)| (*kind, stem.as_str()));
        let templates = self.sources.templates.iter().map(|template| (template.kind, template.stem.as_str()));
        for LeftOver { kind, files } in self.sources.left_over(units.chain(templates), &mut self.set.problems) {
            for file in files {
                match source::read(&file) {
                    Ok(text) => {
                        let path = file.to_string_lossy().into_owned();
                        let scope = Scope { kind, node: UnitName::nobody(), machine: self.machine, path };
                        let sheet = Sheet::new(scope, &[syntax::parse(&file, &text).into()], self.strict);
                        self.set.problems.extend(sheet.into_problems());
                    }
                    Err((severity, text)) => self.set.problems.push(whole(&file, severity, text)),
                }
            }
        }
    }
}

/// `ServiceName=`, or what follows from the file's name. Mistakes in those that a later line replaces are told too.
fn service_name(source: &Source, documents: &[Rc<Document>]) -> (UnitName, Vec<Problem>) {
    let all = documents.iter().flat_map(|document| document.assignments.iter());
    let mut name = None;
    let mut problems = Vec::new();
    for assignment in all.filter(|a| a.key.text == "ServiceName" && a.section.text == source.kind.section()) {
        let value = &assignment.value;
        name = None;
        match UnitName::parse(&value.text) {
            _ if value.text.is_empty() => {}
            Ok(_) if value.text.ends_with(".service") => {
                problems.push(value.error(&value.whole(), "ServiceName= is written without .service"));
            }
            Ok(given) => name = Some(given),
            Err(error) => {
                problems.push(value.error(&value.whole(), format!("ServiceName={}: {error}", value.text)));
            }
        }
    }
    let usual = || UnitName::parse(&source.kind.node(&source.stem)).unwrap_or_else(|_| UnitName::nobody());
    (name.unwrap_or_else(usual), problems)
}

fn named_instances(draft: &Draft) -> Vec<(Kind, String)> {
    let instance = |target: &Target| match target {
        Target::File(kind, stem) if stem.contains('@') => Some((*kind, stem.clone())),
        Target::Service(name) if name.instance().is_some() => match name.as_str().rsplit_once('.') {
            Some((stem, suffix)) if Kind::of(suffix).is_some_and(|kind| matches!(kind, Kind::Timer | Kind::Socket)) => {
                Kind::of(suffix).map(|kind| (kind, stem.to_owned()))
            }
            _ => Some((Kind::Container, name.to_string())),
        },
        _ => None,
    };
    draft.links.iter().filter_map(|link| instance(&link.target)).collect()
}

impl Drafts {
    fn name(&mut self, file: (Kind, String), name: &UnitName, source: &Source) {
        self.read.push(Read::of(source, Some(name.clone())));
        self.files.insert(file, name.clone());
        self.names.insert(name.clone());
    }

    /// Containers by the names that podman would know them by.
    pub(super) fn containers(&self) -> HashMap<String, UnitName> {
        self.by_name(Kind::Container, CONTAINER)
    }

    pub(super) fn networks(&self) -> HashMap<String, UnitName> {
        self.by_name(Kind::Network, NETWORK)
    }

    fn by_name(&self, kind: Kind, of: &str) -> HashMap<String, UnitName> {
        let mut found = HashMap::new();
        for (unit, draft) in self.all.iter().filter(|(_, draft)| draft.kind == kind) {
            for claim in &draft.claims {
                if let Claim::Name { what, name, .. } = claim
                    && *what == of
                {
                    found.insert(name.clone(), unit.clone());
                }
            }
        }
        found
    }

    pub(super) fn aliases(&self) -> HashMap<UnitName, UnitName> {
        let all = self.all.iter().flat_map(|(name, draft)| draft.aliases.iter().map(|a| (a.clone(), name.clone())));
        all.collect()
    }
}

impl Read {
    fn of(source: &Source, name: Option<UnitName>) -> Self {
        let drop_ins = source.drop_ins.iter().map(|(path, _)| path.clone()).collect();
        Self { path: source.path.clone(), name, drop_ins }
    }
}

impl What {
    fn origins(&mut self) -> Option<&mut Vec<Origin>> {
        Some(match self {
            Self::Container(unit) => &mut unit.origins,
            Self::Volume(unit) => &mut unit.origins,
            Self::Network(unit) => &mut unit.origins,
            Self::Image(unit) => &mut unit.origins,
            Self::Pod(unit) => &mut unit.origins,
            Self::Timer(unit) => &mut unit.origins,
            Self::Socket(unit) => &mut unit.origins,
            Self::Checked(_) => return None,
        })
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Container(unit) => &unit.path,
            Self::Volume(unit) => &unit.path,
            Self::Network(unit) => &unit.path,
            Self::Image(unit) => &unit.path,
            Self::Pod(unit) => &unit.path,
            Self::Timer(unit) => &unit.path,
            Self::Socket(unit) => &unit.path,
            Self::Checked(path) => path,
        }
    }
}
