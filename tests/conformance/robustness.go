// Put into robustness of etcd's test module by tests/conformance/run.

package robustness

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"go.etcd.io/etcd/tests/v3/framework/e2e"
	"go.etcd.io/etcd/tests/v3/robustness/failpoint"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/scenarios"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
)

// TestConformance runs the single-member scenarios with kill -9 and validates linearizability and the watch guarantees. What was
// persisted is taken from the watches of everything instead of from etcd's log format.
func TestConformance(t *testing.T) {
	members := 1
	if os.Getenv("CONFORMANCE_MEMBERS") == "3" {
		members = 3
	}
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
		for _, compaction := range []bool{false, true} {
			name := s.name
			profile := traffic.Profile{KeyValue: s.kv, Watch: &traffic.WatchDefault}
			if compaction {
				name += "Compaction"
				profile.Compaction = &traffic.CompactionDefault
			}
			t.Run(name, func(t *testing.T) {
				lg := zaptest.NewLogger(t)
				ctx := t.Context()
				cfg := e2e.NewConfig(e2e.WithClusterSize(members), e2e.WithCompactionBatchLimit(10), e2e.WithWatchProcessNotifyInterval(100*time.Millisecond))
				cfg.Logger = lg
				c, err := e2e.NewEtcdProcessCluster(ctx, t, e2e.WithConfig(cfg))
				require.NoError(t, err)
				defer forcestopCluster(c)
				scenario := scenarios.TestScenario{Name: name, Failpoint: failpoint.KillFailpoint, Cluster: *cfg, Traffic: s.traffic, Profile: profile}
				reports := runScenario(ctx, t, scenario, lg, c)
				persisted := persistedByWatch(t, reports)
				result := validate.ValidateAndReturnVisualize(lg, validate.Config{ExpectRevisionUnique: s.traffic.ExpectUniqueRevision()}, reports, persisted, 5*time.Minute)
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
					name, operations, events, len(persisted), result.Assumptions, result.Linearization.Result, result.Watch, result.Serializable)
				require.NoError(t, result.Error())
			})
		}
	}
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
