//! Rounds, side by side, and their medians.

use std::time::Instant;

use packetstream::BoxError;

use crate::process::{context_switches, processor_time};

/// A way of doing a work once.
pub(crate) type Way<'a> = &'a mut dyn FnMut() -> Result<(), BoxError>;

/// What a way costs for each call: the medians over all rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    /// Seconds of processor time of the whole process, so of both ends.
    pub(crate) processor: Option<f64>,
    pub(crate) switches: Option<f64>,
}

/// Measures several ways of doing the same work, which makes `calls` calls.
pub(crate) fn side_by_side<const N: usize>(
    rounds: usize,
    calls: usize,
    ways: [Way<'_>; N],
) -> Result<[Cost; N], BoxError> {
    let costs = in_turns(rounds, &mut ways.map(|way| (calls, way)))?;
    <[Cost; N]>::try_from(costs).map_err(|_| "there is a cost for each way".into())
}

/// Measures several ways, each with the number of its calls.
///
/// They take turns, so that whatever else the machine does meanwhile falls on all of them.
pub(crate) fn in_turns(
    rounds: usize,
    ways: &mut [(usize, Way<'_>)],
) -> Result<Vec<Cost>, BoxError> {
    let mut costs = vec![Vec::with_capacity(rounds); ways.len()];
    for _ in 0..rounds {
        for ((calls, way), costs) in ways.iter_mut().zip(&mut costs) {
            costs.push(once(*calls, way)?);
        }
    }
    Ok(costs.iter().map(|costs| Cost::median(costs)).collect())
}

impl Cost {
    fn median(costs: &[Self]) -> Self {
        Self {
            seconds: median(costs.iter().map(|cost| cost.seconds).collect()),
            processor: median_of_some(costs, |cost| cost.processor),
            switches: median_of_some(costs, |cost| cost.switches),
        }
    }
}

fn once(calls: usize, way: Way<'_>) -> Result<Cost, BoxError> {
    let each = |amount: f64| amount / calls as f64;
    // The threads are counted outside of what is timed.
    let switches = context_switches();
    let processor = processor_time();
    let start = Instant::now();
    way()?;
    let seconds = start.elapsed().as_secs_f64();
    let processor = difference(processor_time(), processor);
    let switches = difference(context_switches(), switches);
    Ok(Cost {
        seconds: each(seconds),
        processor: processor.map(each),
        switches: switches.map(each),
    })
}

/// How much more there is now, where it can be measured.
pub(crate) fn difference(now: Option<f64>, before: Option<f64>) -> Option<f64> {
    Some(now? - before?)
}

fn median_of_some(costs: &[Cost], figure: impl Fn(&Cost) -> Option<f64>) -> Option<f64> {
    let figures: Option<Vec<f64>> = costs.iter().map(figure).collect();
    figures.map(median)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
