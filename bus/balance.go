package bus

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"

	kafka "github.com/segmentio/kafka-go"
)

// Balancer says how a group shares out partitions.
type Balancer int

const (
	// CoPartitioned gives a member the same partitions of every topic, so that
	// all events of one key, whatever their topic, meet in one place. It needs
	// topics with equal partition counts.
	CoPartitioned Balancer = iota
	// OneOwner gives one member everything; the others stand by. The owner
	// stays the owner for as long as it is a member.
	OneOwner
)

// coPartitioned is kafka-go's range balancer, but for the order of partitions:
// kafka-go takes them as a broker lists them, which need not be the same for
// two topics. It has a name of its own, so that nobody joins who would share
// out in another way.
type coPartitioned struct{}

// ProtocolName tells the coordinator which members understand each other.
func (coPartitioned) ProtocolName() string { return "banyan-copartitioned" }

// UserData gives nothing: all members are equal.
func (coPartitioned) UserData() ([]byte, error) { return nil, nil }

// AssignGroups gives each member a run of neighbouring partition numbers.
func (coPartitioned) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	members = byID(members)
	all := byTopic(partitions)
	shares := make(kafka.GroupMemberAssignments)
	for topic, numbers := range all {
		var readers []string
		for _, m := range members {
			if slices.Contains(m.Topics, topic) {
				readers = append(readers, m.ID)
			}
		}
		for i, id := range readers {
			give(shares, id, topic, numbers[i*len(numbers)/len(readers):(i+1)*len(numbers)/len(readers)])
		}
	}
	return shares
}

// oneOwner gives everything to the member that had it, or else to the first by
// id. A member that joins does not move the work.
type oneOwner struct{ held *atomic.Bool }

// ProtocolName tells the coordinator which members understand each other.
func (oneOwner) ProtocolName() string { return "banyan-oneowner" }

// UserData tells the member that shares out whether this one is the owner.
func (o oneOwner) UserData() ([]byte, error) {
	if o.held.Load() {
		return []byte("owner"), nil
	}
	return nil, nil
}

// AssignGroups gives one member everything. Two may call themselves the owner
// where one of them was taken for dead.
func (o oneOwner) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	shares := make(kafka.GroupMemberAssignments)
	members = byID(members)
	if len(members) == 0 {
		return shares
	}
	owner := members[0]
	if i := slices.IndexFunc(members, func(m kafka.GroupMember) bool { return string(m.UserData) == "owner" }); i >= 0 {
		owner = members[i]
	}
	for topic, numbers := range byTopic(partitions) {
		if slices.Contains(owner.Topics, topic) {
			give(shares, owner.ID, topic, numbers)
		}
	}
	return shares
}

func give(shares kafka.GroupMemberAssignments, id, topic string, numbers []int) {
	if shares[id] == nil {
		shares[id] = make(map[string][]int)
	}
	shares[id][topic] = numbers
}

func byID(members []kafka.GroupMember) []kafka.GroupMember {
	return slices.SortedFunc(slices.Values(members), func(a, b kafka.GroupMember) int { return strings.Compare(a.ID, b.ID) })
}

func byTopic(partitions []kafka.Partition) map[string][]int {
	all := make(map[string][]int)
	for _, p := range partitions {
		all[p.Topic] = append(all[p.Topic], p.ID)
	}
	for _, numbers := range all {
		slices.SortFunc(numbers, cmp.Compare[int])
	}
	return all
}
