// Put into framework/integration of etcd's test module by tests/conformance/run.

package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-semver/semver"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/config"
)

// Process is a server in a process of its own where the framework had one embedded: the few methods of
// etcdserver.EtcdServer that tests of one member call, answered over the wire.
type Process struct {
	Cfg    config.ServerConfig
	cmd    *exec.Cmd
	done   chan struct{}
	ready  chan struct{}
	client *clientv3.Client
	id     types.ID
	once   sync.Once
	log    string
	links  *links
}

// links stands between a member and its peers: its advertised peer URL leads here, and from here to the port where it listens. What a
// peer is called is in the head of its requests (`X-Server-From`), so that a single one can be cut off. Without TLS between members only.
type links struct {
	mu       sync.Mutex
	listener net.Listener
	target   string
	open     map[net.Conn]types.ID
	isCut    map[types.ID]bool
}

func linksTo(advertised string) (*links, error) {
	listener, err := net.Listen("tcp", advertised)
	if err != nil {
		return nil, err
	}
	target, _ := freeURL()
	l := &links{listener: listener, target: target.Host, open: map[net.Conn]types.ID{}, isCut: map[types.ID]bool{}}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go l.carry(conn)
		}
	}()
	return l, nil
}

// carry takes one connection of a peer to the member, once the head of its first request has named it.
func (l *links) carry(conn net.Conn) {
	defer conn.Close()
	head := make([]byte, 0, 4096)
	for !strings.Contains(string(head), "\r\n\r\n") && len(head) < cap(head) {
		n, err := conn.Read(head[len(head):cap(head)])
		if err != nil {
			return
		}
		head = head[:len(head)+n]
	}
	var from types.ID
	for line := range strings.SplitSeq(string(head), "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok && strings.EqualFold(name, "X-Server-From") {
			from, _ = types.IDFromString(value)
		}
	}
	l.mu.Lock()
	if l.isCut[from] {
		l.mu.Unlock()
		return
	}
	l.open[conn] = from
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.open, conn)
		l.mu.Unlock()
	}()
	member, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer member.Close()
	if _, err = member.Write(head); err != nil {
		return
	}
	go func() {
		io.Copy(member, conn)
		member.Close()
	}()
	io.Copy(conn, member)
}

// close ends them with the member, which gets new ones when it is started again.
func (l *links) close() {
	if l == nil {
		return
	}
	l.listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.open {
		conn.Close()
	}
}

func (l *links) cut(id types.ID, off bool) {
	if l == nil {
		panic("left out: cutting off peers with TLS")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut[id] = off
	for conn, from := range l.open {
		if off && from == id {
			conn.Close()
		}
	}
}

func freeURL() (url.URL, string) {
	// Below the ephemeral range: dialling such a port before the server listens could connect to itself.
	for {
		port := strconv.Itoa(10000 + rand.Intn(10000))
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		l.Close()
		return url.URL{Scheme: "http", Host: "localhost:" + port}, port
	}
}

func startProcess(m *Member) (*Process, error) {
	program := filepath.Join(os.Getenv("CONFORMANCE_BIN"), "etcd")
	state := "new"
	if !m.NewCluster {
		state = "existing"
	}
	listenPeers := m.PeerURLs.String()
	var peers *links
	if m.PeerTLSInfo == nil {
		var err error
		if peers, err = linksTo(m.PeerURLs[0].Host); err != nil {
			return nil, err
		}
		listenPeers = "http://" + peers.target
	}
	args := []string{
		"--name=" + m.Name, "--data-dir=" + m.DataDir,
		"--listen-client-urls=" + m.ClientURLs.String(), "--advertise-client-urls=" + m.ClientURLs.String(),
		"--listen-peer-urls=" + listenPeers, "--initial-advertise-peer-urls=" + m.PeerURLs.String(),
		"--initial-cluster=" + m.InitialPeerURLsMap.String(), "--initial-cluster-token=" + m.InitialClusterToken,
		"--initial-cluster-state=" + state, "--log-level=info",
		fmt.Sprintf("--heartbeat-interval=%d", m.TickMs), fmt.Sprintf("--election-timeout=%d", m.TickMs*uint(m.ElectionTicks)),
		fmt.Sprintf("--max-txn-ops=%d", m.MaxTxnOps), fmt.Sprintf("--max-request-bytes=%d", m.MaxRequestBytes),
		fmt.Sprintf("--snapshot-count=%d", m.SnapshotCount),
		fmt.Sprintf("--strict-reconfig-check=%t", m.StrictReconfigCheck),
		fmt.Sprintf("--snapshot-catchup-entries=%d", m.SnapshotCatchUpEntries),
	}
	if m.QuotaBackendBytes != 0 {
		args = append(args, fmt.Sprintf("--quota-backend-bytes=%d", m.QuotaBackendBytes))
	}
	if m.BackendBatchInterval != 0 {
		args = append(args, "--backend-batch-interval="+m.BackendBatchInterval.String())
	}
	if m.WatchProgressNotifyInterval != 0 {
		args = append(args, "--watch-progress-notify-interval="+m.WatchProgressNotifyInterval.String())
	}
	if m.keepAliveMinTime != 0 {
		args = append(args, "--grpc-keepalive-min-time="+m.keepAliveMinTime.String())
	}
	if m.keepAliveInterval != 0 {
		args = append(args, "--grpc-keepalive-interval="+m.keepAliveInterval.String())
	}
	if m.keepAliveTimeout != 0 {
		args = append(args, "--grpc-keepalive-timeout="+m.keepAliveTimeout.String())
	}
	if m.AuthToken != "" && m.AuthToken != "simple" {
		args = append(args, "--auth-token="+m.AuthToken)
	}
	if m.Metrics != "" {
		args = append(args, "--metrics="+m.Metrics)
	}
	if m.leaseCheckpoint {
		args = append(args, "--feature-gates=LeaseCheckpoint=true,LeaseCheckpointPersist="+fmt.Sprint(m.leaseCheckpointPersist))
	}
	var secure *tls.Config
	if info := m.ClientTLSInfo; info != nil {
		args = append(args, "--cert-file="+info.CertFile, "--key-file="+info.KeyFile, "--trusted-ca-file="+info.TrustedCAFile,
			fmt.Sprintf("--client-cert-auth=%t", info.ClientCertAuth))
		if info.ClientCertFile != "" {
			args = append(args, "--client-cert-file="+info.ClientCertFile, "--client-key-file="+info.ClientKeyFile)
		}
		config, err := info.ClientConfig()
		if err != nil {
			return nil, err
		}
		secure = config
	}
	if tls := m.PeerTLSInfo; tls != nil {
		args = append(args, "--peer-cert-file="+tls.CertFile, "--peer-key-file="+tls.KeyFile, "--peer-trusted-ca-file="+tls.TrustedCAFile,
			fmt.Sprintf("--peer-client-cert-auth=%t", tls.ClientCertAuth))
		if tls.ClientCertFile != "" {
			args = append(args, "--peer-client-cert-file="+tls.ClientCertFile, "--peer-client-key-file="+tls.ClientKeyFile)
		}
	}
	if m.ForceNewCluster {
		args = append(args, "--force-new-cluster")
	}
	p := &Process{Cfg: m.ServerConfig, done: make(chan struct{}), ready: make(chan struct{}), log: m.DataDir + ".log", links: peers}
	file, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p.cmd = exec.Command(program, args...)
	p.cmd.Stdout, p.cmd.Stderr = file, file
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err = p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if connection, err := net.Dial("tcp", m.ClientURLs[0].Host); err == nil {
			connection.Close()
			break
		}
		select {
		case <-p.done:
			return p.ended()
		default:
		}
	}
	p.client, err = clientv3.New(clientv3.Config{Endpoints: m.ClientURLs.StringSlice(), DialTimeout: 5 * time.Second, TLS: secure})
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(20 * time.Second); ; {
		status := p.status()
		if status != nil && status.Leader != 0 {
			p.id = types.ID(status.Header.MemberId)
			break
		}
		select {
		case <-p.done:
			return p.ended()
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			stacks, _ := exec.Command("bash", "-c", fmt.Sprintf("for t in /proc/%[1]d/task/*; do cat $t/comm $t/wchan $t/syscall; echo; done; ss -tnlp | grep %[1]d; ss -tn | grep %[2]s", p.cmd.Process.Pid, m.Port)).CombinedOutput()
			text, _ := os.ReadFile(p.log)
			p.HardStop()
			after, _ := os.ReadFile(p.log)
			return nil, fmt.Errorf("the server does not answer: %s\n%s\nAFTER %s", text, stacks, after[len(text):])
		}
	}
	close(p.ready)
	return p, nil
}

// ended is the outcome of a start whose process has ended. The embedded server of a member that finds itself removed starts, and stops then.
func (p *Process) ended() (*Process, error) {
	text, _ := os.ReadFile(p.log)
	if strings.Contains(string(text), "permanently removed from the cluster") {
		return p, nil
	}
	if p.client != nil {
		p.client.Close()
	}
	return nil, fmt.Errorf("the server ended: %s", text)
}

func (p *Process) status() *clientv3.StatusResponse {
	if p.client == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	status, err := p.client.Status(ctx, p.client.Endpoints()[0])
	if err != nil {
		return nil
	}
	return status
}

// HardStop ends the process: with SIGTERM, and by force after five seconds, which is said in the test's output. One of several members
// is killed: etcd's HardStop hands nothing over to others, and a SIGTERM does.
func (p *Process) HardStop() {
	p.once.Do(func() {
		if p.client != nil {
			p.client.Close()
		}
		defer p.links.close()
		if members, _ := strconv.Atoi(os.Getenv("CONFORMANCE_MEMBERS")); members > 1 {
			p.cmd.Process.Kill()
		}
		p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			fmt.Println("CONFORMANCE: the server did not stop within 5 s of SIGTERM")
			p.cmd.Process.Kill()
			<-p.done
		}
		if strings.Contains(os.Getenv("CONFORMANCE_SHOW"), "log") {
			text, _ := os.ReadFile(p.log)
			fmt.Printf("%s\n", text)
		}
		text, _ := os.ReadFile(p.log)
		if strings.Contains(string(text), "panicked at") {
			fmt.Printf("CONFORMANCE: the server panicked: %s\n", text)
		}
	})
}

func (p *Process) MemberID() types.ID              { return p.id }
func (p *Process) StopNotify() <-chan struct{}     { return p.done }
func (p *Process) ReadyNotify() <-chan struct{}    { return p.ready }
func (p *Process) Leader() types.ID                { return types.ID(p.Lead()) }
func (p *Process) PauseSending()                   {}
func (p *Process) ResumeSending()                  {}
func (p *Process) CutPeer(id types.ID)             { p.links.cut(id, true) }
func (p *Process) MendPeer(id types.ID)            { p.links.cut(id, false) }
func (p *Process) ClusterVersion() *semver.Version { return semver.New("3.7.0") }

func (p *Process) Lead() uint64 {
	if status := p.status(); status != nil {
		return status.Leader
	}
	return 0
}

func (p *Process) AppliedIndex() uint64 {
	if status := p.status(); status != nil {
		return status.RaftAppliedIndex
	}
	return 0
}

func (p *Process) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	return pb.NewMaintenanceClient(p.client.ActiveConnection()).Alarm(ctx, r)
}
