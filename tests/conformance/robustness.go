// Put into robustness of etcd's test module by tests/conformance/run.

package robustness

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"go.etcd.io/etcd/tests/v3/framework/config"
	"go.etcd.io/etcd/tests/v3/framework/e2e"
	"go.etcd.io/etcd/tests/v3/robustness/failpoint"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/scenarios"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
)

// profiles are etcd's four kinds of traffic, each with and without compactions beside it.
func profiles() []scenarios.TestScenario {
	var all []scenarios.TestScenario
	for _, s := range []struct {
		name    string
		traffic traffic.Traffic
		kv      *traffic.KeyValue
	}{
		{"EtcdHighTraffic", traffic.EtcdPut, &traffic.KeyValueHigh},
		{"EtcdTrafficDeleteLeases", traffic.EtcdPutDeleteLease, &traffic.KeyValueMedium},
		{"KubernetesHighTraffic", traffic.Kubernetes, &traffic.KeyValueHigh},
		{"KubernetesLowTraffic", traffic.Kubernetes, &traffic.KeyValueMedium},
	} {
		profile := traffic.Profile{KeyValue: s.kv, Watch: &traffic.WatchDefault}
		all = append(all, scenarios.TestScenario{Name: s.name, Traffic: s.traffic, Profile: profile})
		profile.Compaction = &traffic.CompactionDefault
		all = append(all, scenarios.TestScenario{Name: s.name + "Compaction", Traffic: s.traffic, Profile: profile})
	}
	return all
}

// TestConformance runs the single-member scenarios with kill -9 and validates linearizability and the watch guarantees.
func TestConformance(t *testing.T) {
	if config.NumberFromEnvironment("CONFORMANCE_MEMBERS", 1) > 1 {
		t.Skip("left out: of one member")
	}
	for _, s := range profiles() {
		s.Failpoint = failpoint.KillFailpoint
		t.Run(s.Name, func(t *testing.T) {
			runAndValidate(t, s, e2e.WithClusterSize(1))
		})
	}
}

// TestConformanceMembers runs three members with TLS and a proxy between them through each fault that needs no recompiled server,
// CONFORMANCE_RUNS times (8 unless it is set; each run takes the next kind of traffic). With CONFORMANCE_OTHERS=minority or quorum
// one or two of the members are etcd.
func TestConformanceMembers(t *testing.T) {
	if config.NumberFromEnvironment("CONFORMANCE_MEMBERS", 1) < 3 {
		t.Skip("left out: of three members")
	}
	options := []e2e.EPClusterOption{e2e.WithClusterSize(3), e2e.WithIsPeerTLS(true), e2e.WithPeerProxy(true), e2e.WithSnapshotCount(100)}
	switch os.Getenv("CONFORMANCE_OTHERS") {
	case "minority":
		options = append(options, e2e.WithVersion(e2e.MinorityLastVersion))
	case "quorum":
		options = append(options, e2e.WithVersion(e2e.QuorumLastVersion))
	}
	traffics := profiles()
	for _, fault := range []struct {
		name      string
		failpoint failpoint.Failpoint
	}{
		{"Kill", failpoint.KillFailpoint},
		{"Blackhole", failpoint.BlackholePeerNetwork},
		{"BlackholeUntilSnapshot", failpoint.BlackholeUntilSnapshot},
		{"Delay", failpoint.DelayPeerNetwork},
		{"Drop", failpoint.DropPeerNetwork},
		{"MemberReplace", failpoint.MemberReplace},
	} {
		for run := range config.NumberFromEnvironment("CONFORMANCE_RUNS", len(traffics)) {
			s := traffics[run%len(traffics)]
			s.Failpoint = fault.failpoint
			t.Run(fmt.Sprintf("%s/%s/%d", fault.name, s.Name, run), func(t *testing.T) {
				// A snapshot is sent to a member that is further behind than the entries that are kept.
				runAndValidate(t, s, append(slices.Clone(options), e2e.WithSnapshotCatchUpEntries(100))...)
			})
		}
	}
}

// runAndValidate runs one scenario on a cluster of its own. What was persisted is taken from the watches of everything instead of from
// etcd's log format.
func runAndValidate(t *testing.T, s scenarios.TestScenario, options ...e2e.EPClusterOption) {
	lg := zaptest.NewLogger(t)
	ctx := t.Context()
	options = append(options, e2e.WithCompactionBatchLimit(10), e2e.WithWatchProcessNotifyInterval(100*time.Millisecond))
	cfg := e2e.NewConfig(options...)
	cfg.Logger = lg
	s.Cluster = *cfg
	c, err := e2e.NewEtcdProcessCluster(ctx, t, e2e.WithConfig(cfg))
	require.NoError(t, err)
	defer forcestopCluster(c)
	require.NoError(t, failpoint.Validate(c, s.Failpoint, s.Profile))
	reports := runScenario(ctx, t, s, lg, c)
	persisted := persistedByWatch(t, reports)
	result := validate.ValidateAndReturnVisualize(lg, validate.Config{ExpectRevisionUnique: s.Traffic.ExpectUniqueRevision()}, reports, persisted, 5*time.Minute)
	operations, events := 0, 0
	for _, r := range reports {
		operations += len(r.KeyValue)
		for _, w := range r.Watch {
			for _, response := range w.Responses {
				events += len(response.Events)
			}
		}
	}
	t.Logf("CONFORMANCE %s: %d operations, %d watch events, %d revisions; assumptions %v, linearization %v, watch %v, serializable %v",
		t.Name(), operations, events, len(persisted), result.Assumptions, result.Linearization.Result, result.Watch, result.Serializable)
	require.NoError(t, result.Error())
}

func persistedByWatch(t *testing.T, reports []report.ClientReport) []model.EtcdRequest {
	byRevision := map[int64][]model.WatchEvent{}
	for _, r := range reports {
		for _, w := range r.Watch {
			for _, response := range w.Responses {
				here := map[int64][]model.WatchEvent{}
				for _, event := range response.Events {
					here[event.Revision] = append(here[event.Revision], event)
				}
				for revision, events := range here {
					if len(events) > len(byRevision[revision]) {
						byRevision[revision] = events
					}
				}
			}
		}
	}
	var revisions []int64
	for revision := range byRevision {
		revisions = append(revisions, revision)
	}
	slices.Sort(revisions)
	var requests []model.EtcdRequest
	for i, revision := range revisions {
		if revision != int64(i+2) {
			t.Logf("CONFORMANCE: revision %d was compacted before it was watched: the rest is not validated by replay", i+2)
			return nil
		}
		txn := &model.TxnRequest{}
		for _, event := range byRevision[revision] {
			operation := model.EtcdOperation{Type: event.Type}
			if event.Type == model.PutOperation {
				operation.Put = model.PutOptions{Key: event.Key, Value: event.Value}
			} else {
				operation.Delete = model.DeleteOptions{Key: event.Key}
			}
			txn.OperationsOnSuccess = append(txn.OperationsOnSuccess, operation)
		}
		requests = append(requests, model.EtcdRequest{Type: model.Txn, Txn: txn})
	}
	return requests
}
