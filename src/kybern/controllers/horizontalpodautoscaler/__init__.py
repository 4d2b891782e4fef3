"""HorizontalPodAutoscalers: scale by metrics. (being written)"""
