//! At most a tenth more than the sectors stored, at any time.
