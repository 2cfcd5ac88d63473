// Command guest is PID 1 of every sandbox. API.md describes what it does.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"time"

	"chorus-sandbox/guest/internal/api"
	"chorus-sandbox/guest/internal/connect"
	"chorus-sandbox/guest/internal/sandbox"
	"chorus-sandbox/guest/internal/sys"
)

// version is of the guest itself; its API has one of its own.
var version = "0.4.0"

const usage = `guest serve --sandbox-id ID --uid N [--workdir DIR] [--tmp DIR] [--run DIR] [--boot-lease-ms N] [--profile strict|dev]
guest connect [--run DIR]
guest version`

const defaultRun = "/run/chorus"

func main() {
	if len(os.Args) < 2 {
		fail("usage:\n" + usage)
	}
	switch command, args := os.Args[1], os.Args[2:]; command {
	case "serve":
		os.Exit(serve(args))
	case "connect":
		flags := flag.NewFlagSet("connect", flag.ExitOnError)
		run := flags.String("run", defaultRun, "directory of the socket")
		_ = flags.Parse(args)
		os.Exit(connect.Run(*run))
	case "version":
		line, _ := json.Marshal(map[string]any{"version": version, "api": sandbox.API})
		fmt.Println(string(line))
	default:
		fail("unknown command " + command + "; usage:\n" + usage)
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(sandbox.ExitSetup)
}

func serve(args []string) int {
	o, err := options(args)
	if err != nil {
		fail(err.Error())
	}
	// One core does the work of one sandbox; a small heap is worth more here than speed.
	runtime.GOMAXPROCS(min(2, runtime.NumCPU()))
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(96 << 20)
	time.Local = time.UTC // which is read from the image's /etc otherwise, at the first need
	if err := sys.Restrict(); err != nil {
		fail("set-up failed: " + err.Error())
	}
	box, err := sandbox.Open(o)
	if err != nil {
		fail("set-up failed: " + err.Error())
	}
	server, err := api.Listen(box)
	if err != nil {
		fail("set-up failed: " + err.Error())
	}
	go func() {
		if err := server.Serve(); !errors.Is(err, http.ErrServerClosed) {
			fail("the socket failed: " + err.Error())
		}
	}()
	code := <-box.Exit()
	server.Close(250 * time.Millisecond)
	return code
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)

func options(args []string) (sandbox.Options, error) {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	id := flags.String("sandbox-id", "", "id of the sandbox")
	uid := flags.Int("uid", -1, "uid and gid of commands")
	workdir := flags.String("workdir", "/workspace", "home and working directory of commands")
	tmp := flags.String("tmp", "/tmp", "directory for temporary files")
	run := flags.String("run", defaultRun, "directory of the socket")
	boot := flags.Int64("boot-lease-ms", 60_000, "how long to wait for the first server")
	profile := flags.String("profile", "strict", "strict or dev")
	if err := flags.Parse(args); err != nil {
		return sandbox.Options{}, err
	}
	switch {
	case !idForm.MatchString(*id):
		return sandbox.Options{}, errors.New("--sandbox-id is 1 to 128 characters of A-Z a-z 0-9 _ . -")
	case *profile != "strict" && *profile != "dev":
		return sandbox.Options{}, errors.New("--profile is strict or dev")
	case *uid < 1 || *uid > 1<<31-2:
		return sandbox.Options{}, errors.New("--uid is needed and is not 0; commands of --profile dev run as root whatever it is")
	case *boot < 1:
		return sandbox.Options{}, errors.New("--boot-lease-ms is 1 or more")
	}
	return sandbox.Options{
		ID: *id, Uid: *uid, Workdir: *workdir, Tmp: *tmp, Run: *run, BootLease: time.Duration(*boot) * time.Millisecond,
		Dev: *profile == "dev", Version: version,
	}, nil
}
