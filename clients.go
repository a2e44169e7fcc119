package distkit

import (
	"errors"
	"reflect"

	"github.com/redis/go-redis/v9"
)

// checkClient refuses clients on which counters cannot be right.
func checkClient(client redis.UniversalClient) error {
	if client == nil || reflect.ValueOf(client).Kind() == reflect.Pointer && reflect.ValueOf(client).IsNil() {
		return errors.New("the Redis client is nil")
	}
	switch c := client.(type) {
	case *redis.Ring:
		return errors.New("a *redis.Ring forgets what is on a shard that is down and comes back; use a Redis Cluster (redis.NewClusterClient) or one server")
	case *redis.ClusterClient:
		if o := c.Options(); o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return errors.New("the ClusterClient reads from replicas, which are behind; set ReadOnly, RouteByLatency and RouteRandomly to false")
		}
	}
	return nil
}
