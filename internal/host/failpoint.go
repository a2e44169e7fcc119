package host

// FailPoint is the seam by which the fault suite makes an actor panic at a
// named step. It is nil, and does nothing, outside tests.
type FailPoint func(step string)

// At passes the step.
func (f FailPoint) At(step string) {
	if f != nil {
		f(step)
	}
}
