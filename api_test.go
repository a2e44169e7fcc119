package distkit_test

import (
	"bytes"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// apiFile has the package's exported declarations, so that a change of them shows in a
// review.
const apiFile = "docs/api.txt"

// TestAPI_changesOnPurpose: what the package exports is what docs/api.txt says.
func TestAPI_changesOnPurpose(t *testing.T) {
	t.Parallel()
	api := exported(t)
	require.Contains(t, api, "func (c *StrictCounter) IncIf(ctx context.Context, key Key, cond Cond, n int64) (Change, error)\n", "the test does not see the package")
	require.Contains(t, api, "func NewSystem(client redis.UniversalClient, opts ...Option) (*System, error)\n")
	require.NotContains(t, api, "engine", "what is not exported is no part of it")
	if os.Getenv("UPDATE_API") != "" {
		require.NoError(t, os.WriteFile(apiFile, []byte(api), 0o644))
	}
	require.Equal(t, read(t, apiFile), api,
		"the API has changed; if that is meant, tell it in CHANGELOG.md and run UPDATE_API=1 go test -run TestAPI .")
}

// exported are the package's exported declarations, without comments, in order.
func exported(t *testing.T) string {
	t.Helper()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	fset, files := token.NewFileSet(), []*ast.File{}
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") {
			file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			files = append(files, file)
		}
	}
	pkg, err := doc.NewFromFiles(fset, files, "github.com/distkit/distkit-go")
	require.NoError(t, err)

	var lines []string
	add := func(decl ast.Decl) {
		var text bytes.Buffer
		require.NoError(t, (&printer.Config{Mode: printer.TabIndent, Tabwidth: 8}).Fprint(&text, fset, decl))
		lines = append(lines, text.String()+"\n")
	}
	values := func(groups []*doc.Value) {
		for _, group := range groups {
			add(named(group.Decl))
		}
	}
	funcs := func(all []*doc.Func) {
		for _, f := range all {
			f.Decl.Body = nil
			add(f.Decl)
		}
	}
	values(pkg.Consts)
	values(pkg.Vars)
	funcs(pkg.Funcs)
	for _, of := range pkg.Types {
		add(of.Decl)
		values(of.Consts)
		values(of.Vars)
		funcs(of.Funcs)
		funcs(of.Methods)
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// named is a declaration of variables without their values, which are not the API's;
// those of constants are.
func named(decl *ast.GenDecl) *ast.GenDecl {
	if decl.Tok == token.VAR {
		for _, spec := range decl.Specs {
			if values, ok := spec.(*ast.ValueSpec); ok {
				values.Values = nil
			}
		}
	}
	return decl
}
