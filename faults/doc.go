// Package faults holds the tests that would catch the library lying: they break
// Redis, the network, the process and the actors on purpose, and compare every
// counter with what callers were told. docs/FAULTS.md says what each one proves;
// make chaos runs the long forms.
package faults
