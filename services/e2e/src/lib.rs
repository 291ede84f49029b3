//! Nothing to link: this package is its tests, `tests/e2e/`. They start the real `wherry` as a child process on a real
//! containerd and look at it from outside only: command line, REST, DNS, the machine.
