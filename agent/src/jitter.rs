//! The one place that makes random numbers for waiting: plans take them as arguments.

/// Between 0.0 and 1.0, uniformly.
pub fn fraction() -> f64 {
    let mut bytes = [0; 4];
    // A generator that fails costs us the spreading of waits, never the work.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}
