//! Who was asked for what, how often it was done, and what the asker was told.

use std::collections::HashMap;

use packetstream::{Error, Outcome, Rejection, Response, Result};
use parking_lot::Mutex;

/// What the maker of a request knows in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is still waiting, or does not want to know.
    Nothing,
    Answered,
    Failed(Outcome),
}

/// The account of both ends of one run.
#[derive(Default)]
pub struct Ledger {
    requests: Mutex<HashMap<u64, Account>>,
}

struct Account {
    told: Told,
    runs: u32,
}

/// The payload of a request: its number, how deep the handlers are to call back, and octets that
/// follow from the number, with their count.
pub fn payload(number: u64, depth: u8, len: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(9 + len);
    payload.extend(number.to_be_bytes());
    payload.push(depth);
    payload.extend(filler(number).take(len));
    payload
}

fn filler(number: u64) -> impl Iterator<Item = u8> {
    let mut random = fastrand::Rng::with_seed(number);
    std::iter::repeat_with(move || random.u8(..))
}

/// Reads a request's payload; `None` if it is not one that anybody made.
pub fn read_payload(octets: &[u8]) -> Option<(u64, u8)> {
    let (number, rest) = octets.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(*number);
    let (depth, rest) = rest.split_first()?;
    rest.iter()
        .copied()
        .eq(filler(number).take(rest.len()))
        .then_some((number, *depth))
}

/// The answer to a payload: nobody else's.
pub fn answer(payload: &[u8]) -> Vec<u8> {
    payload.iter().rev().map(|octet| !octet).collect()
}

/// Whether a request is one that its handler refuses.
pub fn is_refused(number: u64) -> bool {
    number % 7 == 3
}

pub fn refusal(number: u64) -> Rejection {
    Rejection::new(format!("refused {number}"))
}

impl Ledger {
    /// Opens the account of a request before it is made.
    pub fn open(&self, number: u64) {
        let account = Account {
            told: Told::Nothing,
            runs: 0,
        };
        let double = self.requests.lock().insert(number, account);
        assert!(double.is_none(), "the test made request {number} twice");
    }

    /// A handler runs a request.
    pub fn run(&self, number: u64) {
        let mut requests = self.requests.lock();
        let account = requests.get_mut(&number);
        account.expect("a request that nobody made is run").runs += 1;
    }

    /// Checks what the maker of a request was told, and notes it.
    pub fn tell(&self, number: u64, payload: &[u8], result: &Result<Response>) {
        let told = match result {
            Ok(response) => {
                assert!(!is_refused(number), "request {number} was refused");
                assert_eq!(
                    response.payload(),
                    answer(payload),
                    "request {number} got another's answer"
                );
                Told::Answered
            }
            Err(Error::Rejected(rejection)) if rejection.payload().starts_with(b"refused ") => {
                assert!(is_refused(number), "request {number} was not refused");
                assert_eq!(
                    rejection.payload(),
                    refusal(number).payload(),
                    "another's refusal"
                );
                Told::Answered
            }
            Err(error) => Told::Failed(error.outcome()),
        };
        self.note(number, told);
    }

    pub fn tell_outcome(&self, number: u64, outcome: Outcome) {
        self.note(number, Told::Failed(outcome));
    }

    fn note(&self, number: u64, told: Told) {
        let mut requests = self.requests.lock();
        let account = requests.get_mut(&number).unwrap();
        assert_eq!(
            account.told,
            Told::Nothing,
            "request {number} is settled twice"
        );
        account.told = told;
    }

    /// Compares what was done with what was told; both connections have ended.
    pub fn check(&self) {
        for (number, account) in &*self.requests.lock() {
            let Account { told, runs } = account;
            let is_true = match told {
                Told::Answered => *runs == 1,
                Told::Failed(Outcome::NotSent | Outcome::NotRun) => *runs == 0,
                Told::Failed(_) | Told::Nothing => *runs <= 1,
            };
            assert!(is_true, "request {number} ran {runs} times, told {told:?}");
        }
    }

    /// How many requests there were, and how many of them were answered.
    pub fn totals(&self) -> (usize, usize) {
        let requests = self.requests.lock();
        let answered = requests
            .values()
            .filter(|account| account.told == Told::Answered);
        (requests.len(), answered.count())
    }
}
