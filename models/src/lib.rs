//! Nothing but tests, and those only with `--cfg shuttle`: then the device's lock is the model checker's, which decides at each
//! use of it who goes on. `cargo xtask models` runs them.
