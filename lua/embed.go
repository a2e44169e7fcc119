// Package lua holds the scripts that run inside Redis, one file a script. The
// head of each file gives its KEYS, ARGV, returns and atomicity.
//
// It is not part of the library's API: it may change in any version.
package lua

import _ "embed"

// Apply is the text of apply.lua: apply one numbered batch, exactly once.
//
//go:embed apply.lua
var Apply string
