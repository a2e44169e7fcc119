package distkit

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/distkit/distkit-go/internal/redisio"
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

// waitedFor are the replicas that each strict batch waits for.
func (o *options) waitedFor() redisio.Replicas {
	if o.replicas == nil {
		return redisio.Replicas{}
	}
	return *o.replicas
}

// checkReplicas refuses to wait for replicas longer than the client waits for replies.
func (o *options) checkReplicas(client redis.UniversalClient) error {
	var patience time.Duration
	switch c := client.(type) {
	case *redis.Client:
		if c != nil {
			patience = c.Options().ReadTimeout
		}
	case *redis.ClusterClient:
		if c != nil {
			patience = c.Options().ReadTimeout
		}
	}
	if within := o.waitedFor().Within; patience > 0 && within >= patience {
		return fmt.Errorf("WithReplicas: %v is no less than the ReadTimeout of the client, %v", within, patience)
	}
	return nil
}
