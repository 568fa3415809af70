package kafkatest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"banyan/internal/embedded"
)

// kafkaVersion is the one that kafka/pom.xml names; it also names the cache.
const kafkaVersion = "4.3.1"

//go:embed kafka/pom.xml
var pom []byte

// NewReal starts one Apache Kafka broker, its own controller, and ends it with
// the test. It needs Java 17 and, the first time, Maven: the jars (44 MB) are
// kept in the user's cache directory. A missing tool fails the test: only slow
// tests call this, and whoever asks for those has them.
func NewReal(t testing.TB) *Broker {
	t.Helper()
	libs, err := kafkaJars()
	if err != nil {
		t.Fatalf("kafkatest: get Apache Kafka %s: %v", kafkaVersion, err)
	}
	n := &javaProcess{dir: t.TempDir(), libs: libs}
	if err := n.format(); err != nil {
		t.Fatalf("kafkatest: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("kafkatest: end of the broker's log:\n%s", n.logTail())
		}
		if err := n.kill(); err != nil {
			t.Errorf("kafkatest: %v", err)
		}
		if n.leash != nil {
			n.leash.Close()
		}
	})
	if err := n.start(); err != nil {
		t.Fatalf("kafkatest: %v", err)
	}
	return &Broker{Addrs: []string{n.addr}, node: n}
}

// kafkaJars returns the directory with the broker's jars, fetching them with
// Maven under a lock if this user has none yet.
func kafkaJars() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	base := filepath.Join(cache, "banyan")
	libs := filepath.Join(base, "kafka-"+kafkaVersion)
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	lock, err := os.OpenFile(libs+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("open the lock: %w", err)
	}
	defer lock.Close() // releases it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock the cache: %w", err)
	}
	if _, err := os.Stat(libs); err == nil {
		return libs, nil
	}
	work, err := os.MkdirTemp(base, "kafka-fetch-")
	if err != nil {
		return "", fmt.Errorf("make a directory for the jars: %w", err)
	}
	defer os.RemoveAll(work)
	if err := os.WriteFile(filepath.Join(work, "pom.xml"), pom, 0o644); err != nil {
		return "", fmt.Errorf("write the pom: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	mvn := exec.CommandContext(ctx, "mvn", "-B", "-q", "dependency:copy-dependencies", "-DoutputDirectory=libs", "-DincludeScope=runtime")
	mvn.Dir = work
	if out, err := mvn.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mvn dependency:copy-dependencies: %w\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(work, "libs"), libs); err != nil {
		return "", fmt.Errorf("keep the jars: %w", err)
	}
	return libs, nil
}

// javaProcess is Apache Kafka in a Java process.
type javaProcess struct {
	dir, libs  string
	addr       string
	controller string
	pid        int // 0 while stopped
	leash      *os.File
}

const serverProperties = `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@%[2]s
listeners=PLAINTEXT://%[1]s,CONTROLLER://%[2]s
advertised.listeners=PLAINTEXT://%[1]s
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=%[3]s
num.partitions=6
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.segment.delete.delay.ms=1000
`

func (n *javaProcess) format() error {
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	n.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
	n.controller = net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[1]))
	conf := fmt.Sprintf(serverProperties, n.addr, n.controller, filepath.Join(n.dir, "data"))
	if err := os.WriteFile(filepath.Join(n.dir, "server.properties"), []byte(conf), 0o644); err != nil {
		return fmt.Errorf("write server.properties: %w", err)
	}
	// Any 16 bytes in base64 do as a cluster id.
	java := exec.Command("java", "-cp", filepath.Join(n.libs, "*"), "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"kafka.tools.StorageTool", "format", "-t", "YmFueWFuLXRlc3Qta2Fma2", "-c", "server.properties")
	java.Dir = n.dir
	if out, err := java.CombinedOutput(); err != nil {
		return fmt.Errorf("format the broker's storage: %w\n%s", err, out)
	}
	return nil
}

func (n *javaProcess) start() error {
	if n.pid != 0 {
		return nil
	}
	log, err := os.OpenFile(filepath.Join(n.dir, "server.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open the broker's log: %w", err)
	}
	defer log.Close()
	java := exec.Command("java", "-Xms384m", "-Xmx384m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", filepath.Join(n.libs, "*"), "kafka.Kafka", "server.properties")
	java.Dir, java.Stdout, java.Stderr = n.dir, log, log
	java.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := java.Start(); err != nil {
		return fmt.Errorf("start Kafka: %w", err)
	}
	n.pid = java.Process.Pid
	if err := java.Process.Release(); err != nil {
		return fmt.Errorf("start Kafka: %w", err)
	}
	if err := n.watch(); err != nil {
		return errors.Join(err, n.kill())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- awaitMetadata(ctx, []string{n.addr}, "", 0) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-failed:
			if err != nil {
				return fmt.Errorf("start Kafka: %w; its log ends:\n%s", err, n.logTail())
			}
			return nil
		case <-tick.C:
			if embedded.Gone(n.pid) {
				n.pid = 0
				cancel()
				<-failed
				return fmt.Errorf("start Kafka: it ended at once; its log ends:\n%s", n.logTail())
			}
		}
	}
}

// watch leaves a shell behind that kills this broker when the test process
// ends in whatever way; t.Cleanup does not run after a SIGKILL.
func (n *javaProcess) watch() error {
	if n.leash != nil {
		n.leash.Close()
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make the watcher's pipe: %w", err)
	}
	defer r.Close()
	// Only a process that still runs this very broker is killed: by the time the
	// pipe ends, the number may be somebody else's.
	sh := exec.Command("/bin/sh", "-c", `read _; case "$( (tr "\0" " " </proc/$1/cmdline || ps -o command= -p $1) 2>/dev/null)" in *kafka.Kafka*) kill -9 "$1";; esac`,
		"kafkatest-watcher", strconv.Itoa(n.pid))
	sh.Stdin = r
	sh.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := sh.Start(); err != nil {
		w.Close()
		return fmt.Errorf("start the watcher: %w", err)
	}
	n.leash = w
	return sh.Process.Release()
}

func (n *javaProcess) stop() error { return n.end(syscall.SIGTERM) }
func (n *javaProcess) kill() error { return n.end(syscall.SIGKILL) }

func (n *javaProcess) end(sig syscall.Signal) error {
	if n.pid == 0 {
		return nil
	}
	if err := syscall.Kill(n.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop Kafka: %w", err)
	}
	if !embedded.WaitGone(n.pid, time.Minute) {
		return fmt.Errorf("stop Kafka: process %d is still there a minute after %v", n.pid, sig)
	}
	n.pid = 0
	return nil
}

func (n *javaProcess) logTail() string {
	b, err := os.ReadFile(filepath.Join(n.dir, "server.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
