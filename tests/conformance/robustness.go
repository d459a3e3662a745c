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
	if err := failpoint.Validate(c, s.Failpoint, s.Profile); err != nil {
		t.Skip("etcd's suite does not ask it of such a cluster: ", err)
	}
	reports := runScenario(ctx, t, s, lg, c)
	var persisted []model.EtcdRequest
	var result validate.RobustnessResult
	for _, persisted = range persistedByWatch(t, reports) {
		result = validate.ValidateAndReturnVisualize(lg, validate.Config{ExpectRevisionUnique: s.Traffic.ExpectUniqueRevision()}, reports, persisted, 5*time.Minute)
		if result.Error() == nil {
			break
		}
	}
	if result.Error() != nil {
		saved, err := report.NewTestReport(lg, testResultsDirectory(t), nil, &report.TrafficDetail{ExpectUniqueRevision: s.Traffic.ExpectUniqueRevision()})
		require.NoError(t, err)
		saved.SetClientReports(reports)
		saved.SetVisualizer(result.Linearization.Visualize)
		require.NoError(t, saved.Finalize(true, false))
	}
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

// persistedByWatch returns what was persisted, in order, as the watches of everything show it. They do not tell a delete from the revoke of
// a lease, and show no compaction. The clients' reports do where the client had an answer; where it had none, and could have sent either,
// or what it sent may have had no effect, both are possible, and every combination is returned.
func persistedByWatch(t *testing.T, reports []report.ClientReport) [][]model.EtcdRequest {
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
	leases := leasesOf(reports)
	var all [][]model.EtcdRequest
	var granted []model.EtcdRequest
	for _, lease := range leases.granted {
		granted = append(granted, model.EtcdRequest{Type: model.LeaseGrant, LeaseGrant: &model.LeaseGrantRequest{LeaseID: lease}})
	}
	all = append(all, granted)
	attached := map[string]int64{}
	for i, revision := range revisions {
		if revision != int64(i+2) {
			t.Logf("CONFORMANCE: revision %d was compacted before it was watched: the rest is not validated by replay", i+2)
			return [][]model.EtcdRequest{nil}
		}
		txn := &model.TxnRequest{}
		for _, event := range byRevision[revision] {
			operation := model.EtcdOperation{Type: event.Type}
			if event.Type == model.PutOperation {
				operation.Put = model.PutOptions{Key: event.Key, Value: event.Value, LeaseID: leases.byPut[model.PutOptions{Key: event.Key, Value: event.Value}]}
			} else {
				operation.Delete = model.DeleteOptions{Key: event.Key}
			}
			txn.OperationsOnSuccess = append(txn.OperationsOnSuccess, operation)
		}
		lease, txnPossible := leases.causes(revision, txn, attached)
		var next [][]model.EtcdRequest
		for _, so := range all {
			if txnPossible {
				next = append(next, append(slices.Clone(so), model.EtcdRequest{Type: model.Txn, Txn: txn}))
			}
			if lease != 0 {
				next = append(next, append(slices.Clone(so), model.EtcdRequest{Type: model.LeaseRevoke, LeaseRevoke: &model.LeaseRevokeRequest{LeaseID: lease}}))
			}
		}
		all = next
		require.LessOrEqual(t, len(all), 1<<8, "too many requests without an answer could have been either")
		for _, operation := range txn.OperationsOnSuccess {
			if operation.Type == model.PutOperation {
				attached[operation.Put.Key] = operation.Put.LeaseID
			} else {
				delete(attached, operation.Delete.Key)
			}
		}
	}
	// No watch shows a compaction, so one without an answer may have been carried out or not. As the last request it bounds nobody's time.
	for _, compaction := range compactionsWithoutAnswer(reports) {
		for _, so := range slices.Clone(all) {
			all = append(all, append(slices.Clone(so), compaction))
		}
		require.LessOrEqual(t, len(all), 1<<8, "too many compactions without an answer")
	}
	return all
}

func compactionsWithoutAnswer(reports []report.ClientReport) []model.EtcdRequest {
	var found []model.EtcdRequest
	for _, r := range reports {
		for _, operation := range r.KeyValue {
			request, response := operation.Input.(model.EtcdRequest), operation.Output.(model.MaybeEtcdResponse)
			if request.Type == model.Compact && response.Error != "" {
				found = append(found, request)
			}
		}
	}
	return found
}

// leases is what the clients' reports say of leases.
type leases struct {
	granted []int64
	// The lease of each put that has one.
	byPut map[model.PutOptions]int64
	// Revokes whose answer has this revision, one of which made it at most, and revokes without an answer.
	revoked map[int64][]int64
	unknown map[int64]bool
	// Revisions of transactions that were answered and changed something.
	answered map[int64]bool
	// Keys of deletes without an answer.
	deletes map[string]bool
}

func leasesOf(reports []report.ClientReport) leases {
	l := leases{byPut: map[model.PutOptions]int64{}, revoked: map[int64][]int64{}, unknown: map[int64]bool{}, answered: map[int64]bool{}, deletes: map[string]bool{}}
	for _, r := range reports {
		for _, operation := range r.KeyValue {
			request, response := operation.Input.(model.EtcdRequest), operation.Output.(model.MaybeEtcdResponse)
			switch request.Type {
			case model.LeaseRevoke:
				if response.Error == "" {
					l.revoked[response.Revision] = append(l.revoked[response.Revision], request.LeaseRevoke.LeaseID)
				} else {
					l.unknown[request.LeaseRevoke.LeaseID] = true
				}
			case model.Txn:
				if response.Error == "" && changes(request.Txn, response.Txn) {
					l.answered[response.Revision] = true
				}
				for _, o := range request.Txn.AllOperations() {
					if o.Type == model.DeleteOperation && response.Error != "" {
						l.deletes[o.Delete.Key] = true
					}
					if o.Type == model.PutOperation && o.Put.LeaseID != 0 {
						l.byPut[model.PutOptions{Key: o.Put.Key, Value: o.Put.Value}] = o.Put.LeaseID
						if !slices.Contains(l.granted, o.Put.LeaseID) {
							l.granted = append(l.granted, o.Put.LeaseID)
						}
					}
				}
			}
		}
	}
	return l
}

func changes(request *model.TxnRequest, response *model.TxnResponse) bool {
	operations := request.OperationsOnSuccess
	if response.Failure {
		operations = request.OperationsOnFailure
	}
	for i, o := range operations {
		if o.Type == model.PutOperation || o.Type == model.DeleteOperation && response.Results[i].Deleted > 0 {
			return true
		}
	}
	return false
}

// causes says what can have made this revision: the revoke of a lease (or 0), and whether a transaction can.
func (l leases) causes(revision int64, txn *model.TxnRequest, attached map[string]int64) (lease int64, txnPossible bool) {
	deletesUnknown := true
	for i, o := range txn.OperationsOnSuccess {
		of := attached[o.Delete.Key]
		if o.Type != model.DeleteOperation || of == 0 || i > 0 && of != lease {
			return 0, true
		}
		lease = of
		deletesUnknown = deletesUnknown && l.deletes[o.Delete.Key]
	}
	switch {
	case l.answered[revision]:
		return 0, true
	case slices.Contains(l.revoked[revision], lease):
		return lease, false
	case !l.unknown[lease]:
		return 0, true
	default:
		return lease, deletesUnknown
	}
}
