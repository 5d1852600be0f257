//! Micro-benchmarks live beside this file; there is nothing to link against.
