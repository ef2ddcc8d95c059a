//! Inputs to start from, written down as the operations they are.
