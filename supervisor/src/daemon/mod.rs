//! The daemon: `orlop supervise`.

#![allow(dead_code)]
mod engine;
mod machine;
#[cfg(test)]
mod testing;
