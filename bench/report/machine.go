package report

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// Machine is where and with what a run was made. What cannot be found out is "".
type Machine struct {
	Date     string            `json:"date"`
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"` // that Go uses
	Memory   string            `json:"memory"`
	OS       string            `json:"os"`
	Kernel   string            `json:"kernel"`
	Go       string            `json:"go"`
	Redis    string            `json:"redis"`
	Load     string            `json:"load"`     // load averages before the run
	Revision string            `json:"revision"` // distkit's, "+" if the tree was changed
	Modules  map[string]string `json:"modules"`  // the versions of what is compared
}

// compared is what a run's Modules list.
var compared = []string{
	"github.com/redis/go-redis/v9",
	"github.com/redis/rueidis",
	"github.com/asynkron/protoactor-go",
}

// Describe describes this machine; the server's version is the caller's to know.
func Describe(redisVersion string) Machine {
	m := Machine{
		Date:     time.Now().UTC().Format(time.RFC3339),
		CPU:      after("/proc/cpuinfo", "model name"),
		Cores:    runtime.GOMAXPROCS(0),
		Memory:   after("/proc/meminfo", "MemTotal"),
		OS:       runtime.GOOS + "/" + runtime.GOARCH,
		Kernel:   firstLine("/proc/sys/kernel/osrelease"),
		Go:       runtime.Version(),
		Redis:    redisVersion,
		Load:     firstLine("/proc/loadavg"),
		Revision: revision(),
		Modules:  map[string]string{},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			for _, name := range compared {
				if module.Path == name {
					m.Modules[name] = module.Version
				}
			}
		}
	}
	return m
}

// after returns what follows "name :" in the first line of a file that has it.
func after(path, name string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func firstLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

func revision() string {
	head, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return ""
	}
	name := strings.TrimSpace(string(head))
	// Results of an earlier run are no change of what was measured.
	changed, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)bench/results").Output()
	if err == nil && len(changed) > 0 {
		name += "+"
	}
	return name
}
