//! Integration tests: real processes, real sockets, stock clients; one binary.
//!
//! ```text
//!   layers        reads src/ and fails on an import that is not in its table, and on circles between files
//!   differential  the same traffic to ringd and etcd        wire, wire_frames   the same for what is below the messages
//!   watch, watch_requests, watch_flow, lease, maintenance   the same for those services
//!   kubernetes    the request shapes of kube-apiserver      lock       locks and elections, by service and by recipe
//!   clients       stock etcdctl and the etcd-client crate   crash      kill -9 under load
//!   client_views, client_crate        the same two, for everything but KV
//!   ringctl, terminal ringctl beside etcdctl: scripts; passwords on a terminal
//!   snapshots, utl    data in both directions               maintenance_crash   kill -9 during maintenance
//!   maintenance_disks   disks that get full during it       utl_disks  the same, and kill -9, under ringutl
//!   bad_input     what no client would send                 startup    flags, ports, directories
//!   damage        changed bytes in the data directory       disks      full, in memory, read-only
//!   listening     sockets in the file system, and listeners for one kind of traffic
//!   metrics       /metrics beside etcd's                    pages      the other pages beside etcd's
//!   gateway       the JSON gateway beside etcd's, streams and WebSocket too
//!   health        gRPC health beside etcd's                 auth       users and roles beside etcd's
//!   members       the Cluster service of one member beside etcd's
//!   cluster       three members, ringd and etcd in any mix, and what happens to them under load
//!   cluster_services  what a service asks of other members: leases, hand-overs, learners, lost leaders
//!   peer_tls          certificates between members: who is let in, and clusters on such links
//!   client_tls    the same for clients, and files that change under load
//!   healing       members with damaged data, and how they come back
//!   stalled_disk  a leader whose disk hangs
//!   discovery     members that are found by SRV records
//!   lone_start    one of three goes on alone with `--force-new-cluster`, as etcd does
//!   cluster_clients   our client library and ringctl on three members
//!   ringbench     the load generator: what it counts, and what it says of faults
//!   proxy, history    the network of those tests, and the checkers of what clients saw
//!   namespaces    the same with packets that the kernel loses
//!   soak          random faults on such clusters, for as long as one wants
//!   traces        spans of distributed tracing beside etcd's
//!   fuzz          seeded programs against parsers
//! ```
//!
//! Some compare with etcd or use its tools (`make reference` builds them). Without those they are reported as ignored,
//! never as passed; with `CI=true` they fail. That is why the harness is libtest-mimic: the one of Rust cannot say so at run time.

#![allow(clippy::unwrap_used)]

mod auth;
mod auth_cluster;
mod bad_input;
mod client_crate;
mod client_tls;
mod client_views;
mod clients;
mod cluster;
mod cluster_clients;
mod cluster_services;
mod crash;
mod damage;
mod differential;
mod discovery;
mod disks;
mod fuzz;
mod gateway;
mod harness;
mod healing;
mod health;
mod history;
mod kubernetes;
mod layers;
mod lease;
mod listening;
mod lock;
mod lone_start;
mod maintenance;
mod maintenance_crash;
mod maintenance_disks;
mod members;
mod metrics;
mod namespaces;
mod pages;
mod peer_tls;
mod proxy;
mod ringbench;
mod ringctl;
mod snapshots;
mod soak;
mod stalled_disk;
mod startup;
mod terminal;
mod traces;
mod traffic;
mod utl;
mod utl_disks;
mod watch;
mod watch_flow;
mod watch_requests;
mod wire;
mod wire_frames;

use std::env;

use harness::reference::{self, LACKING_IN_3_4, Release};
use libtest_mimic::{Arguments, Trial};

fn main() {
    harness::let_children_be_interrupted();
    let mut tests = vec![
        test("layers::imports_are_in_the_table", layers::imports_are_in_the_table),
        test("layers::table_keeps_the_plan", layers::table_keeps_the_plan),
        test("layers::files_form_no_circles", layers::files_form_no_circles),
        test("layers::core_is_pure", layers::core_is_pure),
        test("layers::files_are_short", layers::files_are_short),
        test("layers::checks_find_faults", layers::checks_find_faults),
        test("startup::stops_and_starts", startup::stops_and_starts),
        test("startup::port_taken", startup::port_taken),
        test("startup::directory_in_use", startup::directory_in_use),
        with_reference("startup::directory_of_etcd", startup::directory_of_etcd),
        with_reference("startup::directory_not_for_etcd", startup::directory_not_for_etcd),
        test("startup::directory_that_cannot_be", startup::directory_that_cannot_be),
        test("startup::unknown_flag", startup::unknown_flag),
        test("startup::contradictions", startup::contradictions),
        test("startup::member_that_exists", startup::member_that_exists),
        test("startup::signals_without_effect", startup::signals_without_effect),
        test("startup::signals_that_end_it", startup::signals_that_end_it),
        test("startup::directory_for_everybody", startup::directory_for_everybody),
        test("startup::logs_in_files", startup::logs_in_files),
        with_reference_3_7("startup::flags_and_version_of_etcd", startup::flags_and_version_of_etcd),
        test("listening::socket_in_the_file_system", listening::socket_in_the_file_system),
        test("listening::socket_shared_by_cores", listening::socket_shared_by_cores),
        test("listening::ports_are_shared_on_demand", listening::ports_are_shared_on_demand),
        with_reference("listening::stock_client_on_a_socket", listening::stock_client_on_a_socket),
        with_reference_3_7("listening::traffic_is_split_as_by_etcd", listening::traffic_is_split_as_by_etcd),
        test("damage::log_regions", damage::log_regions),
        test("damage::log_tail", damage::log_tail),
        test("damage::log_of_a_newer_version", damage::log_of_a_newer_version),
        test("damage::half_a_directory", damage::half_a_directory),
        test("damage::page_file_metas", damage::page_file_metas),
        test("damage::page_file_pages", damage::page_file_pages),
        with_mounts("disks::full_disk", disks::full_disk),
        with_mounts("disks::full_disk_is_told", disks::full_disk_is_told),
        with_mounts("disks::full_log_disk", disks::full_log_disk),
        with_mounts("disks::in_memory", disks::in_memory),
        with_mounts("disks::read_only", disks::read_only),
        with_reference_3_7("members::requests_agree", members::requests_agree),
        with_reference_3_7("members::limits_agree", members::limits_agree),
        test("fuzz::raft_requests", fuzz::raft_requests),
        test("fuzz::command_lines", fuzz::command_lines),
        with_reference("differential::kv_traffic_agrees", differential::kv_traffic_agrees),
        with_reference_3_7("differential::files_agree", differential::files_agree),
        with_reference_3_7("watch::history_from_every_revision", watch::history_from_every_revision),
        with_reference_3_7("watch::live", watch::live),
        with_reference_3_7("watch_requests::requests_agree", watch_requests::requests_agree),
        with_reference_3_7(
            "watch_requests::progress_is_told_when_it_is_true",
            watch_requests::progress_is_told_when_it_is_true,
        ),
        with_reference_3_7("watch_requests::notices", watch_requests::notices),
        with_reference_3_7("watch_requests::streams_end_alone", watch_requests::streams_end_alone),
        with_reference_3_7("watch_flow::fragments_agree", watch_flow::fragments_agree),
        with_reference_3_7("watch_flow::stalled_stream_misses_nothing", watch_flow::stalled_stream_misses_nothing),
        with_reference_3_7(
            "watch_flow::stalled_stream_is_compacted_away",
            watch_flow::stalled_stream_is_compacted_away,
        ),
        with_reference_3_7("lease::requests_agree", lease::requests_agree),
        with_reference_3_7("lease::traffic_agrees", lease::traffic_agrees),
        with_reference_3_7("lease::keepalives_are_answered_in_order", lease::keepalives_are_answered_in_order),
        with_reference_3_7("lease::revoked_keys_are_watched", lease::revoked_keys_are_watched),
        with_reference_3_7("lease::expiry", lease::expiry),
        with_reference_3_7("maintenance::hashes_agree", maintenance::hashes_agree),
        with_reference_3_7("maintenance::alarms_agree", maintenance::alarms_agree),
        with_reference_3_7("maintenance::quota_agrees", maintenance::quota_agrees),
        with_reference_3_7("maintenance::automatic_compaction_agrees", maintenance::automatic_compaction_agrees),
        with_reference_3_7("maintenance::automatic_compaction_flags", maintenance::automatic_compaction_flags),
        with_reference_3_7("maintenance::single_member_answers_agree", maintenance::single_member_answers_agree),
        with_reference_3_7(
            "maintenance_crash::acknowledged_writes_survive",
            maintenance_crash::acknowledged_writes_survive,
        ),
        with_mounts_and_reference("maintenance_disks::compaction", maintenance_disks::compaction),
        with_mounts_and_reference("maintenance_disks::defragmentation", maintenance_disks::defragmentation),
        with_mounts_and_reference("maintenance_disks::revocation", maintenance_disks::revocation),
        with_mounts_and_reference("maintenance_disks::snapshot", maintenance_disks::snapshot),
        with_mounts_and_reference("maintenance_disks::ended_and_started", maintenance_disks::ended_and_started),
        with_reference_3_7("snapshots::restored_by_etcd", snapshots::restored_by_etcd),
        with_reference_3_7("snapshots::read_slowly", snapshots::read_slowly),
        with_reference_3_7("snapshots::defragmented_in_use", snapshots::defragmented_in_use),
        with_reference_3_7("kubernetes::requests_agree", kubernetes::requests_agree),
        with_reference_3_7("wire::transport_agrees", wire::transport_agrees),
        with_reference_3_7("wire::http1_agrees", wire::http1_agrees),
        with_reference_3_7("wire_frames::frames_agree", wire_frames::frames_agree),
        with_reference_3_7("pages::pages_agree", pages::pages_agree),
        with_reference_3_7("pages::reports_agree", pages::reports_agree),
        with_reference_3_7("pages::hosts_agree", pages::hosts_agree),
        with_reference_3_7("pages::access_agrees", pages::access_agrees),
        test("pages::profiles_are_served", pages::profiles_are_served),
        with_reference_3_7("pages::encodings_agree", pages::encodings_agree),
        with_reference_3_7("gateway::requests_agree", gateway::requests_agree),
        with_reference_3_7("gateway::headers_agree", gateway::headers_agree),
        with_reference_3_7("gateway::large_requests_agree", gateway::large_requests_agree),
        with_reference_3_7("gateway::users_agree", gateway::users_agree),
        with_reference_3_7("gateway::watches_agree", gateway::watches_agree),
        with_reference_3_7("gateway::other_streams_agree", gateway::other_streams_agree),
        with_reference_3_7("gateway::large_answers_agree", gateway::large_answers_agree),
        with_reference_3_7("gateway::access_agrees", gateway::access_agrees),
        with_reference_3_7("gateway::websockets_agree", gateway::websockets_agree),
        test("gateway::clients_that_leave_cancel_their_calls", gateway::clients_that_leave_cancel_their_calls),
        test("gateway::websockets_call_any_method", gateway::websockets_call_any_method),
        test(
            "gateway::stream_errors_have_members_for_old_clients",
            gateway::stream_errors_have_members_for_old_clients,
        ),
        test("gateway::connections_are_kept", gateway::connections_are_kept),
        with_reference_3_7("metrics::families_agree", metrics::families_agree),
        with_reference_3_7("metrics::dashboards_are_served", metrics::dashboards_are_served),
        with_reference_3_7("metrics::measured_as_in_etcd", metrics::measured_as_in_etcd),
        with_reference_3_7("health::answers_agree", health::answers_agree),
        with_reference_3_7("traces::spans_are_those_of_etcd", traces::spans_are_those_of_etcd),
        test("traces::servers_go_on_without_a_collector", traces::servers_go_on_without_a_collector),
        test("health::watches_end_with_the_server", health::watches_end_with_the_server),
        test("health::defragmentation_with_the_gate", health::defragmentation_with_the_gate),
        with_reference_3_7("auth::without_users_agrees", auth::without_users_agrees),
        with_reference_3_7("auth::rights_on_keys_agree", auth::rights_on_keys_agree),
        with_reference_3_7("auth::rights_to_administrate_agree", auth::rights_to_administrate_agree),
        with_reference_3_7("auth::rights_on_leases_agree", auth::rights_on_leases_agree),
        with_reference_3_7("auth::rights_to_watch_agree", auth::rights_to_watch_agree),
        with_reference_3_7("auth::rights_to_lock_agree", auth::rights_to_lock_agree),
        with_reference_3_7("auth::random_changes_agree", auth::random_changes_agree),
        with_reference_3_7("auth::many_permissions_agree", auth::many_permissions_agree),
        with_reference_3_7("auth::passwords_agree", auth::passwords_agree),
        with_reference_3_7("auth::commands_agree", auth::commands_agree),
        with_reference_3_7("auth::migrated_users_count", auth::migrated_users_count),
        with_reference_3_7("auth::etcd_takes_ringds_users", auth::etcd_takes_ringds_users),
        with_reference_3_7("auth::signed_tokens_agree", auth::signed_tokens_agree),
        with_reference_3_7("auth::unused_tokens_end", auth::unused_tokens_end),
        with_reference_3_7("auth::watches_are_rechecked", auth::watches_are_rechecked),
        with_reference_3_7("auth_cluster::users_count_everywhere", auth_cluster::users_count_everywhere),
        with_reference_3_7("auth_cluster::mixed_members_agree", auth_cluster::mixed_members_agree),
        test("metrics::counters_move", metrics::counters_move),
        with_reference("clients::etcdctl_prints_the_same", clients::etcdctl_prints_the_same),
        with_reference("clients::etcdctl_reads_large_values", clients::etcdctl_reads_large_values),
        with_reference("clients::etcdctl_sees_a_healthy_endpoint", clients::etcdctl_sees_a_healthy_endpoint),
        with_reference_3_7("clients::ringctl_prints_the_same", clients::ringctl_prints_the_same),
        with_reference_3_7("clients::ringctl_sees_what_etcdctl_sees", clients::ringctl_sees_what_etcdctl_sees),
        with_reference_3_7("ringctl::auth_script", ringctl::auth_script),
        with_reference_3_7("ringctl::concurrency_script", ringctl::concurrency_script),
        with_reference_3_7("ringctl::kv_script", ringctl::kv_script),
        with_reference_3_7("ringctl::other_script", ringctl::other_script),
        with_reference_3_7("ringctl::txn_script", ringctl::txn_script),
        with_reference_3_7("ringctl::watch_script", ringctl::watch_script),
        test("ringctl::certificates_that_are_none_are_refused", ringctl::certificates_that_are_none_are_refused),
        with_reference_3_7("ringctl::debug_shows_the_flags", ringctl::debug_shows_the_flags),
        with_reference_3_7("ringctl::leases_are_kept_alive", ringctl::leases_are_kept_alive),
        with_reference_3_7(
            "ringctl::mirrors_keep_their_prefix_and_complain",
            ringctl::mirrors_keep_their_prefix_and_complain,
        ),
        with_reference_3_7("ringctl::results_without_a_table_are_told", ringctl::results_without_a_table_are_told),
        test("ringctl::a_status_is_watched", ringctl::a_status_is_watched),
        test("terminal::copies_show_their_progress", terminal::copies_show_their_progress),
        with_reference_3_7("terminal::passwords_are_not_shown", terminal::passwords_are_not_shown),
        with_reference_3_7(
            "terminal::interrupted_prompts_leave_the_terminal_as_it_was",
            terminal::interrupted_prompts_leave_the_terminal_as_it_was,
        ),
        test("clients::etcd_client_crate", clients::etcd_client_crate),
        with_reference_3_7("client_views::maintenance_prints_the_same", client_views::maintenance_prints_the_same),
        with_reference_3_7("client_views::leases_print_the_same", client_views::leases_print_the_same),
        with_reference_3_7("client_views::watches_print_the_same", client_views::watches_print_the_same),
        with_reference_3_7("client_views::watches_begin_now", client_views::watches_begin_now),
        with_reference_3_7(
            "client_views::interactive_watches_print_the_same",
            client_views::interactive_watches_print_the_same,
        ),
        with_reference_3_7(
            "client_views::progress_notices_print_the_same",
            client_views::progress_notices_print_the_same,
        ),
        with_reference_3_7("client_views::snapshots_hold_the_same", client_views::snapshots_hold_the_same),
        with_reference_3_7("client_views::mirrors_follow", client_views::mirrors_follow),
        with_reference_3_7("client_views::datascale_passes", client_views::datascale_passes),
        with_reference_3_7("client_views::perf_is_interrupted", client_views::perf_is_interrupted),
        with_reference_3_7("client_tls::stock_clients_are_served", client_tls::stock_clients_are_served),
        with_reference_3_7("client_tls::pages_are_served_over_http2", client_tls::pages_are_served_over_http2),
        test(
            "client_tls::streams_over_http2_end_with_their_clients",
            client_tls::streams_over_http2_end_with_their_clients,
        ),
        with_reference_3_7(
            "client_tls::only_fitting_certificates_are_let_in",
            client_tls::only_fitting_certificates_are_let_in,
        ),
        with_reference_3_7(
            "client_tls::encrypted_and_plain_are_told_apart",
            client_tls::encrypted_and_plain_are_told_apart,
        ),
        with_reference_3_7("client_tls::suites_and_versions_are_limited", client_tls::suites_and_versions_are_limited),
        with_reference_3_7("client_tls::own_certificates_are_shown", client_tls::own_certificates_are_shown),
        with_reference_3_7(
            "client_tls::sockets_in_the_file_system_are_encrypted",
            client_tls::sockets_in_the_file_system_are_encrypted,
        ),
        with_reference_3_7("client_tls::ringctl_is_secured_as_etcdctl", client_tls::ringctl_is_secured_as_etcdctl),
        with_reference_3_7(
            "client_tls::ringbench_brings_a_certificate_and_a_user",
            client_tls::ringbench_brings_a_certificate_and_a_user,
        ),
        with_reference_3_7("client_tls::mirrors_are_secured", client_tls::mirrors_are_secured),
        with_reference_3_7("client_tls::kubeadms_flags_are_served", client_tls::kubeadms_flags_are_served),
        with_reference_3_7(
            "client_tls::common_names_do_not_count_at_the_gateway",
            client_tls::common_names_do_not_count_at_the_gateway,
        ),
        test("client_tls::files_are_replaced_under_load", client_tls::files_are_replaced_under_load),
        test("client_tls::silent_connections_keep_nobody_out", client_tls::silent_connections_keep_nobody_out),
        test("client_crate::watches", client_crate::watches),
        test("client_crate::leases", client_crate::leases),
        test("client_crate::maintenance", client_crate::maintenance),
        with_reference_3_7("lock::services_agree", lock::services_agree),
        test("lock::order_of_twenty", lock::order_of_twenty),
        test("lock::lost_sessions", lock::lost_sessions),
        test("lock::canceled_waiters", lock::canceled_waiters),
        test("lock::observers", lock::observers),
        with_reference_3_7("lock::one_queue_for_all", lock::one_queue_for_all),
        with_reference_3_7("lock::interrupted_clients", lock::interrupted_clients),
        test("lock::etcd_client_crate", lock::etcd_client_crate),
        test("bad_input::random_bytes", bad_input::random_bytes),
        test("bad_input::mutated_requests", bad_input::mutated_requests),
        test("bad_input::half_requests", bad_input::half_requests),
        test("bad_input::huge_headers", bad_input::huge_headers),
        test("bad_input::frame_floods", bad_input::frame_floods),
        test("bad_input::oversized_values_and_many_connections", bad_input::oversized_values_and_many_connections),
        with_reference_3_7("utl::prints_the_same", utl::prints_the_same),
        with_reference_3_7("utl::restores_a_snapshot", utl::restores_a_snapshot),
        with_reference_3_7("utl::restores_one_of_several", utl::restores_one_of_several),
        with_reference_3_7("utl::bumps_the_revision", utl::bumps_the_revision),
        with_reference_3_7("utl::refuses_damaged_snapshots", utl::refuses_damaged_snapshots),
        with_reference_3_7("utl::migrates_a_stopped_etcd", utl::migrates_a_stopped_etcd),
        with_reference_3_7("utl::migrates_a_killed_etcd", utl::migrates_a_killed_etcd),
        with_reference_3_7("utl::migrates_a_snapshotted_etcd", utl::migrates_a_snapshotted_etcd),
        with_reference_3_7("utl::migrates_a_member_of_several", utl::migrates_a_member_of_several),
        with_reference_3_7("utl::migrates_the_requests_of_users", utl::migrates_the_requests_of_users),
        with_reference_3_7("utl::migrates_changes_of_members", utl::migrates_changes_of_members),
        with_reference_3_7("utl::migrates_every_kind_of_entry", utl::migrates_every_kind_of_entry),
        with_reference_3_7("utl::refuses_other_directories", utl::refuses_other_directories),
        with_reference_3_7("utl::defragments", utl::defragments),
        with_reference_3_7("utl::moves_the_schema", utl::moves_the_schema),
        with_reference_3_7("utl::etcd_takes_ringds_database", utl::etcd_takes_ringds_database),
        with_mounts_and_reference("utl_disks::full_disk", utl_disks::full_disk),
        with_reference_3_7("utl_disks::killed", utl_disks::killed),
        test("proxy::rules_hold", proxy::rules_hold),
        test("history::checkers_bite", history::checkers_bite),
        test("history::checkers_judge_a_machine", history::checkers_judge_a_machine),
        with_reference_3_7("cluster::every_member_serves", cluster::every_member_serves),
        with_reference_3_7("cluster::leader_is_killed", cluster::leader_is_killed),
        with_reference_3_7("cluster::all_are_killed", cluster::all_are_killed),
        with_reference_3_7("cluster::members_are_restarted", cluster::members_are_restarted),
        with_reference_3_7("cluster::leader_is_cut_off", cluster::leader_is_cut_off),
        with_reference_3_7("cluster::leader_is_not_heard", cluster::leader_is_not_heard),
        with_reference_3_7("cluster::links_fail_one_way", cluster::links_fail_one_way),
        with_reference_3_7("cluster::links_are_slow", cluster::links_are_slow),
        with_reference_3_7("cluster::leader_is_paused", cluster::leader_is_paused),
        with_reference_3_7("cluster::five_go_down_to_quorum", cluster::five_go_down_to_quorum),
        with_reference_3_7("cluster::five_are_split", cluster::five_are_split),
        with_reference_3_7("cluster::learner_is_promoted", cluster::learner_is_promoted),
        with_reference_3_7("cluster::lost_disk_is_replaced", cluster::lost_disk_is_replaced),
        with_reference_3_7("cluster::emptied_member_is_refused", cluster::emptied_member_is_refused),
        with_reference_3_7("cluster::lagging_member_gets_a_snapshot", cluster::lagging_member_gets_a_snapshot),
        with_reference_3_7("cluster::members_move_to_another_program", cluster::members_move_to_another_program),
        with_namespaces("namespaces::three_keep_a_quorum", namespaces::three_keep_a_quorum),
        with_namespaces("namespaces::three_lose_every_link", namespaces::three_lose_every_link),
        with_namespaces("namespaces::five_are_split", namespaces::five_are_split),
        test("healing::damaged_database_is_healed", healing::damaged_database_is_healed),
        test("healing::database_behind_the_others_is_healed", healing::database_behind_the_others_is_healed),
        test("healing::damaged_log_is_healed", healing::damaged_log_is_healed),
        test("healing::lost_log_waits_for_all_others", healing::lost_log_waits_for_all_others),
        test("healing::emptied_member_is_healed", healing::emptied_member_is_healed),
        test("healing::history_survives_healing", healing::history_survives_healing),
        with_reference_3_7("healing::other_value_is_found_at_start", healing::other_value_is_found_at_start),
        with_reference_3_7("healing::other_value_is_found_in_time", healing::other_value_is_found_in_time),
        with_mounts("stalled_disk::leader_hands_over", stalled_disk::leader_hands_over),
        test("discovery::members_are_found_by_their_records", discovery::members_are_found_by_their_records),
        test("discovery::clients_find_their_endpoints", discovery::clients_find_their_endpoints),
        test("discovery::faults_of_records_are_told", discovery::faults_of_records_are_told),
        test("lone_start::ringd_goes_on_alone", lone_start::ringd_goes_on_alone),
        with_reference_3_7("lone_start::etcd_goes_on_alone", lone_start::etcd_goes_on_alone),
        with_reference_3_7(
            "cluster_services::leases_are_kept_by_the_leader",
            cluster_services::leases_are_kept_by_the_leader,
        ),
        test("cluster_services::leadership_is_handed_over", cluster_services::leadership_is_handed_over),
        with_reference_3_7("peer_tls::members_live_on_secure_links", peer_tls::members_live_on_secure_links),
        with_reference_3_7(
            "peer_tls::own_certificates_need_no_authority",
            peer_tls::own_certificates_need_no_authority,
        ),
        with_reference_3_7(
            "peer_tls::only_fitting_certificates_are_let_in",
            peer_tls::only_fitting_certificates_are_let_in,
        ),
        with_reference_3_7(
            "peer_tls::certificates_of_the_other_program_are_no_hindrance",
            peer_tls::certificates_of_the_other_program_are_no_hindrance,
        ),
        with_reference_3_7("peer_tls::strangers_stay_outside", peer_tls::strangers_stay_outside),
        with_reference_3_7("peer_tls::replaced_certificates_are_shown", peer_tls::replaced_certificates_are_shown),
        with_reference_3_7("peer_tls::urls_and_certificates_go_together", peer_tls::urls_and_certificates_go_together),
        with_reference_3_7("cluster_services::learners_serve_little", cluster_services::learners_serve_little),
        with_reference_3_7("cluster_services::lost_leader_ends_streams", cluster_services::lost_leader_ends_streams),
        with_reference_3_7(
            "cluster_clients::calls_go_around_lost_endpoints",
            cluster_clients::calls_go_around_lost_endpoints,
        ),
        with_reference_3_7("cluster_clients::stock_client_operates", cluster_clients::stock_client_operates),
        with_reference_3_7("cluster_clients::questions_print_the_same", cluster_clients::questions_print_the_same),
        with_reference_3_7("cluster_clients::changes_print_the_same", cluster_clients::changes_print_the_same),
        test("ringbench::workloads_are_counted", ringbench::workloads_are_counted),
        test("ringbench::faults_are_told", ringbench::faults_are_told),
        test("ringbench::servers_are_compared", ringbench::servers_are_compared),
        test("ringbench::faults_of_comparisons_are_told", ringbench::faults_of_comparisons_are_told),
        test("crash::acknowledged_writes_survive", crash::acknowledged_writes_survive),
    ];
    if env::var_os(soak::MINUTES).is_some() {
        tests.push(with_reference_3_7("soak::random_faults", soak::random_faults));
    }
    announce_what_is_missing();
    libtest_mimic::run(&Arguments::from_args(), tests).exit();
}

fn test(name: &'static str, body: fn()) -> Trial {
    Trial::test(name, move || {
        body();
        Ok(())
    })
}

/// A test that needs an etcd and etcdctl, of whatever release.
fn with_reference(name: &'static str, body: fn()) -> Trial {
    comparison(name, body, reference::etcd().is_some())
}

/// A test that needs etcd 3.7.3 and all its tools: what 3.4 lacks is left out by name.
fn with_reference_3_7(name: &'static str, body: fn()) -> Trial {
    let present = reference::etcd().is_some_and(|(_, release)| release == Release::V3_7);
    comparison(name, body, present)
}

/// A test that mounts a file system. Where that is not allowed it is reported as ignored; root in CI has to be allowed.
fn with_mounts(name: &'static str, body: fn()) -> Trial {
    if disks::may_mount() {
        return test(name, body);
    }
    let must = in_ci() && rustix::process::geteuid().is_root();
    test(name, || panic!("root cannot mount here")).with_ignored_flag(!must)
}

/// A test whose members live in network namespaces. Where that is not allowed it is reported as ignored: proxies lose bytes there.
fn with_namespaces(name: &'static str, body: fn()) -> Trial {
    match harness::namespaces::may_be_made() {
        true => with_reference_3_7(name, body),
        false => test(name, body).with_ignored_flag(true),
    }
}

/// Both: a small disk, and etcd's tools to judge what is on it.
fn with_mounts_and_reference(name: &'static str, body: fn()) -> Trial {
    match disks::may_mount() {
        true => with_reference_3_7(name, body),
        false => with_mounts(name, body),
    }
}

fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}

fn comparison(name: &'static str, body: fn(), present: bool) -> Trial {
    if present {
        return test(name, body);
    }
    let missing = || panic!("CI has to build the reference: make reference");
    test(name, missing).with_ignored_flag(!in_ci())
}

/// A line each about what is not tested here.
fn announce_what_is_missing() {
    if !disks::may_mount() {
        eprintln!("full, read-only and in-memory disks are skipped: mounting them is not allowed here");
    }
    match reference::etcd() {
        None => {
            eprintln!("comparisons are skipped: no etcd here; `make reference` builds it");
        }
        Some((_, Release::V3_4)) => {
            eprintln!("compared with etcd 3.4, which lacks {}", LACKING_IN_3_4.join("; "));
        }
        Some((_, Release::V3_7)) => (),
    }
}
