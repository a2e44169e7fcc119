package actors

// failPoint is the seam by which the fault suite makes an actor panic at a
// named step. It is nil, and does nothing, outside tests.
type failPoint func(step string)

func (f failPoint) at(step string) {
	if f != nil {
		f(step)
	}
}
