//! The books of a connection: what was asked, what ran, and what the callers were told, with
//! payloads that belong to one request only.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::ops::AddAssign;

use packetstream::{Connection, Error, Outcome, Request, Response, Tag};
use parking_lot::{Condvar, Mutex};

/// Names one request of one end of one connection; also what its payload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slip {
    pub connection: u64,
    /// The end that asks.
    pub end: usize,
    pub number: usize,
    /// How many words of eight octets fill the payload.
    pub words: usize,
}

impl Slip {
    pub fn question(self) -> Vec<u8> {
        self.payload(0)
    }

    /// The answer to this, which was asked with the given tag.
    pub fn answer(self, tag: Tag) -> Vec<u8> {
        // Tags on channel 0 start at 2, so none looks like a question.
        self.payload(tag.get())
    }

    fn payload(self, tag: u64) -> Vec<u8> {
        let fields = [
            self.connection,
            self.end as u64,
            self.number as u64,
            self.words as u64,
            tag,
        ];
        let key = fields.iter().fold(0, |sum: u64, field| {
            (sum ^ field)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
        });
        let mut payload: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.to_be_bytes())
            .collect();
        payload.extend(key.to_be_bytes().repeat(self.words + 1));
        payload
    }

    /// Reads a question, every octet of it.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (fields, _) = payload.as_chunks::<8>();
        let field = |index: usize| fields.get(index).copied().map(u64::from_be_bytes);
        let slip = Self {
            connection: field(0)?,
            end: usize::try_from(field(1)?).ok()?,
            number: usize::try_from(field(2)?).ok()?,
            words: usize::try_from(field(3)?).ok()?,
        };
        // The length first, since the claim of a damaged one may be enormous.
        let is_whole = payload.len() == 8 * slip.words.checked_add(6)?;
        (is_whole && slip.question() == payload).then_some(slip)
    }
}

/// What the caller of a request was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// An answer, good or not, of the handler.
    Answered,
    /// The request failed, whoever is to blame.
    Failed(Outcome),
    /// The caller cancelled it, let its time run out, or must not wait for it where it is.
    GivenUp(Outcome),
    /// The caller did not want to know.
    Forgotten,
}

const FATES: [Fate; 8] = [
    Fate::Answered,
    Fate::Failed(Outcome::NotSent),
    Fate::Failed(Outcome::NotRun),
    Fate::Failed(Outcome::Unknown),
    Fate::GivenUp(Outcome::NotSent),
    Fate::GivenUp(Outcome::NotRun),
    Fate::GivenUp(Outcome::Unknown),
    Fate::Forgotten,
];

#[derive(Debug, Default)]
struct Entry {
    runs: u32,
    fate: Option<Fate>,
}

#[derive(Debug, Default)]
struct Books {
    /// Of each asking end.
    entries: [Vec<Entry>; 2],
    open: usize,
    complaints: Vec<String>,
}

impl Books {
    /// An entry, which may be of the other process.
    fn entry(&mut self, end: usize, number: usize) -> &mut Entry {
        let entries = &mut self.entries[end];
        if entries.len() <= number {
            entries.resize_with(number + 1, Entry::default);
        }
        &mut entries[number]
    }
}

/// The books of one connection.
#[derive(Debug)]
pub struct Ledger {
    pub connection: u64,
    books: Mutex<Books>,
    settled: Condvar,
    other: Option<Other>,
}

/// How the ledger of one process goes with that of the other end, in another process.
#[derive(Debug)]
enum Other {
    /// It will be read from a journal.
    Read,
    /// It reads the journal, each line of which is written at once: it outlives this process.
    Write(Mutex<File>),
}

/// How many requests met which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub asked: u64,
    pub ran: u64,
    pub answered: u64,
    pub not_sent: u64,
    pub not_run: u64,
    pub unknown: u64,
    pub given_up: u64,
    pub forgotten: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.asked += other.asked;
        self.ran += other.ran;
        self.answered += other.answered;
        self.not_sent += other.not_sent;
        self.not_run += other.not_run;
        self.unknown += other.unknown;
        self.given_up += other.given_up;
        self.forgotten += other.forgotten;
    }
}

impl Ledger {
    pub fn new(connection: u64) -> Self {
        Self {
            connection,
            books: Mutex::default(),
            settled: Condvar::new(),
            other: None,
        }
    }

    /// The ledger of one end, whose other end writes a journal in another process.
    pub fn of_one_end(connection: u64) -> Self {
        Self {
            other: Some(Other::Read),
            ..Self::new(connection)
        }
    }

    /// The ledger of one end, written to a journal.
    pub fn with_journal(connection: u64, journal: File) -> Self {
        Self {
            other: Some(Other::Write(Mutex::new(journal))),
            ..Self::new(connection)
        }
    }

    /// Writes a line of the journal, if there is one.
    pub fn note(&self, line: &str) {
        if let Some(Other::Write(journal)) = &self.other {
            // In one write, or a kill could cut it.
            journal
                .lock()
                .write_all(format!("{line}\n").as_bytes())
                .unwrap();
        }
    }

    /// Enters what the other end has written, which `end` is; returns whether that is all of it.
    pub fn read_journal(&self, end: usize, journal: &str) -> bool {
        let mut books = self.books.lock();
        let mut is_whole = false;
        for line in journal.lines() {
            let mut words = line.splitn(3, ' ');
            let (kind, number) = (words.next(), words.next());
            let number = number.and_then(|number| number.parse::<usize>().ok());
            match (kind, number, words.next()) {
                (Some("ran"), Some(number), None) => books.entry(1 - end, number).runs += 1,
                (Some("asked"), Some(number), None) => {
                    books.entry(end, number);
                }
                (Some("told"), Some(number), Some(fate)) => {
                    let fate = FATES.iter().find(|known| format!("{known:?}") == fate);
                    books.entry(end, number).fate = fate.copied();
                }
                (Some("whole"), ..) => is_whole = true,
                _ => books.complaints.push(format!("the other process: {line}")),
            }
        }
        if !is_whole {
            // It was told, or not, and could not say so any more.
            for entry in &mut books.entries[end] {
                entry.fate.get_or_insert(Fate::Forgotten);
            }
        }
        is_whole
    }

    /// Opens an entry for a new request of that end.
    pub fn ask(&self, end: usize, words: usize) -> Slip {
        let mut books = self.books.lock();
        books.open += 1;
        books.entries[end].push(Entry::default());
        let number = books.entries[end].len() - 1;
        drop(books);
        self.note(&format!("asked {number}"));
        Slip {
            connection: self.connection,
            end,
            number,
            words,
        }
    }

    /// Enters that the handler of `end` runs with this payload; `None` if it should not have.
    pub fn run(&self, end: usize, payload: &[u8]) -> Option<Slip> {
        let Some(slip) = Slip::read(payload) else {
            self.complain(format!("end {end} was given damaged octets"));
            return None;
        };
        let mut books = self.books.lock();
        if slip.connection != self.connection || slip.end == end {
            let complaint = format!("{slip:?} reached end {end} of {}", self.connection);
            books.complaints.push(complaint);
            return None;
        }
        if self.other.is_some() {
            books.entry(slip.end, slip.number);
        }
        let entry = books.entries[slip.end].get_mut(slip.number)?;
        entry.runs += 1;
        drop(books);
        self.note(&format!("ran {}", slip.number));
        Some(slip)
    }

    /// Makes a call and enters what comes of it.
    pub fn call(&self, end: usize, words: usize, connection: &Connection) {
        let slip = self.ask(end, words);
        let request = Request::new(1).with_payload(slip.question());
        self.settle(slip, None, connection.call(request));
    }

    /// Enters what the caller was told, and whether an answer is the right one.
    pub fn settle(&self, slip: Slip, tag: Option<Tag>, result: Result<Response, Error>) {
        let is_right = |payload: &[u8]| {
            // A blocking call does not tell its tag, but the answer does.
            let tag = tag.or_else(|| {
                let (fields, _) = payload.as_chunks::<8>();
                fields.get(4).copied().map(u64::from_be_bytes).map(Tag::new)
            });
            tag.is_some_and(|tag| payload == slip.answer(tag))
        };
        let fate = match &result {
            Ok(response) if is_right(response.payload()) => Fate::Answered,
            Ok(response) => {
                self.complain(format!("{slip:?}, {tag:?}: got {:?}", response.payload()));
                Fate::Answered
            }
            Err(error)
                if error.is_cancelled()
                    || error.is_timed_out()
                    || matches!(error, Error::WouldDeadlock(_)) =>
            {
                Fate::GivenUp(error.outcome())
            }
            Err(error) => match error.rejection() {
                Some(rejection) if error.outcome() == Outcome::Unknown => {
                    let payload = rejection.payload();
                    if payload != b"exception during handler" && !is_right(payload) {
                        self.complain(format!("{slip:?}, {tag:?}: rejected as {rejection:?}"));
                    }
                    Fate::Answered
                }
                _ => Fate::Failed(error.outcome()),
            },
        };
        self.enter(slip, fate);
    }

    pub fn enter(&self, slip: Slip, fate: Fate) {
        self.note(&format!("told {} {fate:?}", slip.number));
        let mut books = self.books.lock();
        let entry = &mut books.entries[slip.end][slip.number];
        if let Some(before) = entry.fate.replace(fate) {
            let complaint = format!("{slip:?} was settled as {before:?}, then as {fate:?}");
            books.complaints.push(complaint);
            return;
        }
        books.open -= 1;
        if books.open == 0 {
            self.settled.notify_all();
        }
    }

    pub fn complain(&self, complaint: String) {
        self.note(&complaint);
        self.books.lock().complaints.push(complaint);
    }

    /// Blocks until every caller has been told something.
    pub fn wait_settled(&self) {
        let mut books = self.books.lock();
        while books.open > 0 {
            self.settled.wait(&mut books);
        }
    }

    /// Compares what ran with what the callers were told.
    ///
    /// After an orderly end, what ran must have been answered, unless the caller gave it up.
    pub fn audit(&self, is_orderly: bool) -> Result<Counts, String> {
        let books = self.books.lock();
        let mut counts = Counts::default();
        let mut complaints = books.complaints.clone();
        let entries = books.entries.iter().enumerate();
        for (end, (number, entry)) in
            entries.flat_map(|(end, list)| list.iter().enumerate().map(move |e| (end, e)))
        {
            counts.asked += 1;
            counts.ran += u64::from(entry.runs);
            match entry.fate {
                Some(Fate::Answered) => counts.answered += 1,
                Some(Fate::Failed(Outcome::NotSent)) => counts.not_sent += 1,
                Some(Fate::Failed(Outcome::NotRun)) => counts.not_run += 1,
                Some(Fate::Failed(_)) => counts.unknown += 1,
                Some(Fate::GivenUp(_)) => counts.given_up += 1,
                Some(Fate::Forgotten) => counts.forgotten += 1,
                None => {}
            }
            let is_true = match (entry.fate, entry.runs) {
                (None, _) | (_, 2..) => false,
                (Some(Fate::Answered), runs) => runs == 1,
                (Some(Fate::Failed(outcome) | Fate::GivenUp(outcome)), 1) => {
                    let may_have_run = outcome == Outcome::Unknown;
                    let is_lost = is_orderly && matches!(entry.fate, Some(Fate::Failed(_)));
                    may_have_run && !is_lost
                }
                _ => true,
            };
            if !is_true {
                complaints.push(format!("request {number} of end {end}: {entry:?}"));
            }
        }
        if complaints.is_empty() {
            return Ok(counts);
        }
        let mut text = String::new();
        for complaint in complaints {
            writeln!(text, "{complaint}").unwrap();
        }
        Err(text)
    }
}
