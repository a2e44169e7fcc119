package distkit_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What an operator has to know is named in docs/OPERATIONS.md or the README: every
// option, every error and every event of the package.
func TestDocs_nameAllThatAnOperatorMeets(t *testing.T) {
	t.Parallel()
	names := operated(t)
	for _, known := range []string{"WithPrefix", "WithLogger", "ErrClosed", "ErrPartlyApplied", "BatchError", "WriterFailed", "EventsDropped"} {
		require.Contains(t, names, known, "the test does not see the package")
	}
	text := read(t, "docs/OPERATIONS.md") + read(t, "README.md")
	require.Empty(t, unnamed(names, text), "docs/OPERATIONS.md has to name them")

	for _, name := range names { // the test can fail
		without := strings.NewReplacer("`"+name, "`Other", "`*"+name, "`*Other").Replace(text)
		require.Contains(t, unnamed(names, without), name)
	}
}

// unnamed are the names that a text does not show as code.
func unnamed(names []string, text string) []string {
	var missing []string
	for _, name := range names {
		if !regexp.MustCompile("`[*]?" + name + "\\b").MatchString(text) {
			missing = append(missing, name)
		}
	}
	return missing
}

// operated are the names of the package's options, errors and events.
func operated(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var names []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, decl := range parsed.Decls {
			names = append(names, operatedIn(decl)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func operatedIn(decl ast.Decl) (names []string) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		switch {
		case decl.Recv == nil && isOption(decl):
			names = append(names, decl.Name.Name)
		case decl.Recv != nil && (decl.Name.Name == "level" || decl.Name.Name == "Error"): // of an event, or an error
			if name := receiver(decl); ast.IsExported(name) {
				names = append(names, name)
			}
		}
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			if values, ok := spec.(*ast.ValueSpec); ok && decl.Tok == token.VAR {
				for _, name := range values.Names {
					if strings.HasPrefix(name.Name, "Err") {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// isOption reports whether a function is exported and returns an Option.
func isOption(f *ast.FuncDecl) bool {
	if !f.Name.IsExported() || f.Type.Results == nil || len(f.Type.Results.List) != 1 {
		return false
	}
	result, ok := f.Type.Results.List[0].Type.(*ast.Ident)
	return ok && result.Name == "Option"
}

// receiver is the name of a method's type.
func receiver(f *ast.FuncDecl) string {
	of := f.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if name, ok := of.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}

// Links of the documents to files, and to headings of documents, lead somewhere.
func TestDocs_linksLeadSomewhere(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	top, err := filepath.Glob("*.md")
	require.NoError(t, err)
	documents = append(documents, top...)
	require.Contains(t, documents, "README.md")
	link, code := regexp.MustCompile(`\]\(([^)\s]+)\)`), regexp.MustCompile("(?s)\n```.*?\n```")
	links := 0
	for _, document := range documents {
		for _, match := range link.FindAllStringSubmatch(code.ReplaceAllString(read(t, document), ""), -1) {
			if strings.Contains(match[1], "://") || strings.HasPrefix(match[1], "mailto:") {
				continue
			}
			links++
			require.NoError(t, leads(document, match[1]), "%s: %s", document, match[1])
		}
	}
	require.Greater(t, links, 10, "the test does not see the links")
	require.Error(t, leads("README.md", "docs/NOTHING.md"))
	require.Error(t, leads("README.md", "docs/OPERATIONS.md#no-such-heading"))
}

// leads says what is wrong with a link of a document.
func leads(document, to string) error {
	to, heading, _ := strings.Cut(to, "#")
	target := document
	if to != "" {
		target = filepath.Join(filepath.Dir(document), to)
	}
	text, err := os.ReadFile(target)
	if heading == "" {
		_, err = os.Stat(target) // which may be a directory
		return err
	}
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(text), "\n") {
		if title, found := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); found && strings.HasPrefix(line, "#") && anchor(title) == heading {
			return nil
		}
	}
	return &os.PathError{Op: "look for the heading #" + heading, Path: target, Err: os.ErrNotExist}
}

// anchor is a heading's, as GitHub makes it.
func anchor(title string) string {
	kept := regexp.MustCompile(`[^\p{L}\p{N}\- ]`).ReplaceAllString(strings.ToLower(title), "")
	return strings.ReplaceAll(kept, " ", "-")
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}
