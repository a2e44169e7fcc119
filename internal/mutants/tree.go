package main

import (
	"io/fs"
	"strings"
)

// fsWithout hides hidden files and the benchmarks' module.
type fsWithout struct{ fs.FS }

// ReadDir implements fs.ReadDirFS.
func (f fsWithout) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(f.FS, name)
	kept := entries[:0]
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ".") && (name != "." || entry.Name() != "bench") {
			kept = append(kept, entry)
		}
	}
	return kept, err
}
